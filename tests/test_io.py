"""Model files: what comes back is what was saved, and nothing else does."""

import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import safetensors.numpy

import robustctl as rc
from robustctl.errors import InvalidModelError, ModelFileError
from robustctl.io import inspect, load, save
from robustctl.io.structure import CLASSES, FUNCTIONS, decode, encode
from robustctl.store import atomic
from robustctl.store.container import pack, unpack
from robustctl.system import Parameterization
from robustctl.train import FittedModel
from robustctl.train.initial_state import WarmUp, learned_state, warm_up, zero_state

from .model_files import assert_same, edit, fields, tamper

KEY = jr.key(0)
SIZES = dict(nu=2, nx=3, ny=2, key=KEY)
R2DN = dict(**SIZES, nv=4, hidden=(5, 4))


def unit(network):
    """The network scaled to a Lipschitz constant below one."""
    return jax.tree.map(lambda a: a / 8 if eqx.is_array(a) else a, network)


def mlp(dtype):
    return unit(eqx.nn.MLP(4, 4, 3, 2, dtype=dtype, key=KEY))


def scanned(system, nu, ny, experiments, key):
    zero = system.init_state()
    network = eqx.nn.MLP(4 * (nu + ny), zero.size, 5, 4, jnp.tanh, dtype=zero.dtype, key=key, scan=True)
    return WarmUp(network, 4)


def identified(initial):
    def make(dtype):
        model = rc.nn.LipschitzR2DN(**R2DN, gamma=3.0, dtype=dtype)
        start = initial(model.explicit(), 2, 2, 3, KEY)
        scaling = rc.data.Scaling(
            np.array([0.1, 1 / 3]), np.array([1.0, 2.0]), np.zeros(2), np.array([1e-7, 5.0])
        )
        return FittedModel(model, start, scaling, 0.1, ("u1", "ü 2"), ("y1", 'y"2\\'), ("V", "m"), ("", "K"))

    return make


MODELS = {
    "ContractingR2DN": lambda dtype: rc.nn.ContractingR2DN(**R2DN, rate=0.1 + 0.2, dtype=dtype),
    "LipschitzR2DN": lambda dtype: rc.nn.LipschitzR2DN(**R2DN, gamma=1e-3, train_gamma=True, dtype=dtype),
    "DissipativeR2DN": lambda dtype: rc.nn.DissipativeR2DN(**R2DN, **rc.nn.passive(2), dtype=dtype),
    "tanh as phi": lambda dtype: rc.nn.ContractingR2DN(**SIZES, nv=4, phi=jnp.tanh, dtype=dtype),
    "Linear as phi": lambda dtype: rc.nn.ContractingR2DN(
        **SIZES, nv=4, phi=unit(eqx.nn.Linear(4, 4, dtype=dtype, key=KEY)), dtype=dtype
    ),
    "MLP as phi": lambda dtype: rc.nn.ContractingR2DN(**SIZES, nv=4, phi=mlp(dtype), dtype=dtype),
    "ContractingREN": lambda dtype: rc.nn.ContractingREN(**SIZES, nv=4, dtype=dtype),
    "LipschitzREN": lambda dtype: rc.nn.LipschitzREN(**SIZES, nv=4, gamma=2.0, dtype=dtype),
    "DissipativeREN": lambda dtype: rc.nn.DissipativeREN(**SIZES, nv=4, **rc.nn.passive(2), dtype=dtype),
    "StableLinear": lambda dtype: rc.nn.StableLinear(**SIZES, dtype=dtype),
    "GRU": lambda dtype: rc.nn.GRU(**SIZES, dtype=dtype),
    "ParaGRU": lambda dtype: rc.nn.ParaGRU(**SIZES, dtype=dtype),
    "LSTM": lambda dtype: rc.nn.LSTM(**SIZES, dtype=dtype),
    "LBDN": lambda dtype: rc.nn.LBDN(2, 3, (4, 5), activation=jax.nn.softplus, key=KEY, dtype=dtype),
    "affine LBDN": lambda dtype: rc.nn.LBDN(2, 3, (), key=KEY, dtype=dtype),
    "bypass as phi": lambda dtype: rc.nn.ContractingR2DN(
        **SIZES,
        nv=4,
        phi=rc.nn.BypassLBDN(4, 4, (3, 2), activation=jnp.tanh, key=KEY, dtype=dtype),
        dtype=dtype,
    ),
    "GroupSort in phi": lambda dtype: rc.nn.ContractingR2DN(
        **SIZES,
        nv=4,
        phi=rc.nn.Orthogonal(4, 4, (3,), activation=rc.nn.GroupSort(3), key=KEY, dtype=dtype),
        dtype=dtype,
    ),
    "Householder": lambda dtype: rc.nn.Orthogonal(
        2, 3, (4, 2), activation=rc.nn.Householder([1, 2]), key=KEY, dtype=dtype
    ),
    "LipschitzStatic": lambda dtype: rc.nn.LipschitzStatic(
        nu=2, ny=1, gamma=3.0, hidden=(4,), key=KEY, dtype=dtype
    ),
    "Stack": lambda dtype: rc.nn.Stack(
        nu=2, ny=1, states=3, layers=3, nv=4, hidden=(5,), gamma=2.0, train_gamma=True, key=KEY, dtype=dtype
    ),
    "Stack of one layer": lambda dtype: rc.nn.Stack(
        nu=2, ny=1, states=2, layers=1, rate=0.3, gamma=2.0, key=KEY, dtype=dtype
    ),
    "InputConvexRNN": lambda dtype: rc.nn.InputConvexRNN(
        **SIZES, gamma=2.0, directions=(1, -1), activation=jax.nn.softplus, train_gamma=True, dtype=dtype
    ),
    "InputConvexRNN without a direct path": lambda dtype: rc.nn.InputConvexRNN(
        **SIZES, gamma=2.0, direct=False, dtype=dtype
    ),
    "LPV": lambda dtype: rc.nn.LPV(
        rc.nn.Contracting(0.9),
        nu=4,
        nx=3,
        nv=4,
        ny=2,
        schedule=(2, 0),
        factors=3,
        hidden=2,
        key=KEY,
        dtype=dtype,
    ),
    "LPV with a gain": lambda dtype: rc.nn.LPV(
        rc.nn.Lipschitz(2.0, 0.9, trainable=True), nu=2, nx=3, nv=4, ny=1, schedule=(0,), key=KEY, dtype=dtype
    ),
    "ScheduledProduct": lambda dtype: rc.nn.ScheduledProduct(3, 2, factors=2, hidden=4, key=KEY, dtype=dtype),
    "InnovationR2DN": lambda dtype: rc.nn.InnovationR2DN(
        nu=2, nx=3, nv=4, ny=2, hidden=(5,), key=KEY, dtype=dtype
    ),
    "InnovationR2DN with an estimated channel": lambda dtype: rc.nn.InnovationR2DN(
        nu=2, nx=3, nv=4, ny=2, nz=1, hidden=(5,), key=KEY, dtype=dtype
    ),
    "CorrectedR2DN": lambda dtype: rc.nn.CorrectedR2DN(
        [[0.5]],
        [[1.0, 0.0]],
        [[1.0], [2.0]],
        [[0.0, 0.0]] * 2,
        [0.0],
        [0.1, 0.2],
        core=rc.nn.ContractingR2DN(**{**R2DN, "nu": 3, "ny": 2}, dtype=dtype),
    ),
    "StateObserver": lambda dtype: rc.nn.StateObserver(rc.nn.ContractingR2DN(**R2DN, dtype=dtype)),
    "Rescaled": lambda dtype: rc.Rescaled(
        rc.nn.LipschitzR2DN(**R2DN, gamma=3.0, dtype=dtype), (1e-3, 2.0), (5.0, 1 / 3)
    ),
    "zero state": identified(zero_state()),
    "learned state": identified(learned_state(horizon=20)),
    "warm-up": identified(warm_up(4, width=5)),
    "scanned warm-up": identified(scanned),
}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> bytes:
    """The bytes of one model file."""
    file = tmp_path_factory.mktemp("saved") / "model"
    save(file, MODELS["warm-up"](jnp.float32))
    return file.read_bytes()


# Round trips


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_equal(name, dtype, path):
    model = MODELS[name](dtype)
    save(path, model)
    loaded = load(path)
    assert type(loaded) is type(model)
    assert_same(loaded, model)
    assert jax.tree.structure(loaded) == jax.tree.structure(model)
    assert hash(jax.tree.structure(loaded)) == hash(jax.tree.structure(model))
    assert [a.dtype for a in jax.tree.leaves(loaded) if eqx.is_array(a)] == [
        a.dtype for a in jax.tree.leaves(model) if eqx.is_array(a)
    ]


@pytest.mark.parametrize("name", ["LipschitzR2DN", "GRU", "warm-up"])
def test_outputs_are_the_same_to_the_last_bit(name, path):
    model = MODELS[name](jnp.float32)
    save(path, model)
    us = jr.normal(KEY, (20, 2), jnp.float32)
    ys = [np.asarray(rc.rollout(m.explicit(), us).ys) for m in (model, load(path))]
    assert ys[0].tobytes() == ys[1].tobytes()


def test_a_compiled_function_is_used_again_for_the_loaded_model(path):
    traced = []

    @eqx.filter_jit
    def gain(model):
        traced.append(model)
        return model.gamma

    model = MODELS["LipschitzR2DN"](jnp.float64)
    save(path, model)
    assert gain(model) == gain(load(path))
    assert len(traced) == 1


def test_every_parameterization_of_nn_can_be_saved():
    found = {
        name
        for name, cls in vars(rc.nn).items()
        if isinstance(cls, type) and issubclass(cls, Parameterization)
    }
    assert found and found <= set(CLASSES)


def test_saving_is_reproducible_and_the_file_is_plain_safetensors(path):
    model = MODELS["LipschitzR2DN"](jnp.float32)
    save(path, model)
    first = path.read_bytes()
    save(path, load(path))
    assert path.read_bytes() == first
    arrays = safetensors.numpy.load_file(path)
    np.testing.assert_array_equal(arrays["core.X"], model.core.X)


def test_odd_arrays_keep_their_values_dtypes_and_kinds(path):
    model = MODELS["learned state"](jnp.float64)
    odd = (
        np.arange(6.0).reshape(2, 3).T,
        np.arange(4, dtype=">i4"),
        np.zeros((0, 3), np.float16),
        jnp.array(True),
        np.float32(0.1),
        jnp.array([np.nan, np.inf, -0.0]),
    )
    model = eqx.tree_at(lambda m: m.initial.x0, model, (jnp.zeros((3, 3)), odd))
    arrays = {}
    structure = json.loads(json.dumps(encode(model, ("model",), arrays)))
    data = pack({"structure": structure}, arrays)
    back = decode(unpack(data)[0]["structure"], unpack(data)[1]).initial.x0[1]
    for given, expected in zip(back, odd, strict=True):
        assert isinstance(given, jax.Array) == isinstance(expected, jax.Array)
        assert isinstance(given, np.generic) == isinstance(expected, np.generic)
        assert given.dtype == np.dtype(expected.dtype).newbyteorder("=")
        np.testing.assert_array_equal(given, expected)


def test_inspect_tells_what_is_in_the_file(path):
    model = MODELS["LipschitzR2DN"](jnp.float32)
    save(path, model)
    header = inspect(path)
    assert header["format"] == 2
    assert set(header["versions"]) == {"python", "robustctl", "jax", "equinox", "numpy"}
    assert header["structure"]["class"] == "R2DN"
    assert header["structure"]["fields"]["guarantee"]["class"] == "Lipschitz"
    assert header["arrays"]["core.X"] == {"dtype": "float32", "shape": [6, 6]}
    certificate = rc.certificates.Certificate.from_json(json.dumps(header["certificate"]))
    assert certificate.holds and certificate.weights_sha256 == rc.certificates.weights_sha256(
        model.explicit()
    )


# What is not saved


class Foo(eqx.Module):
    scale: jax.Array

    def __call__(self, v):
        return self.scale * v


def foreign():
    return rc.nn.ContractingR2DN(**SIZES, nv=4, phi=Foo(jnp.ones(()) / 2))


def with_x0(x0):
    return eqx.tree_at(lambda m: m.initial.x0, MODELS["learned state"](jnp.float64), x0)


REFUSED = {
    "class": (
        foreign,
        r"model\.core\.phi .*a Foo, which cannot be saved; register its class with @rc\.registered",
    ),
    "function": (
        lambda: rc.nn.LBDN(2, 2, (3,), activation=lambda x: x / 2, key=KEY),
        r"model\.activation .*the function <lambda>.* use one of relu, tanh",
    ),
    "list": (lambda: with_x0([jnp.zeros(3)]), r"model\.initial\.x0 .*a list"),
    "random key": (lambda: with_x0((KEY,)), r"model\.initial\.x0\.0 .*key<fry>"),
    "bfloat16": (
        lambda: with_x0(jnp.zeros((3, 3), jnp.bfloat16)),
        r"model\.initial\.x0 .*bfloat16.* float32",
    ),
    "infinity": (lambda: with_x0(float("inf")), r"model\.initial\.x0 must be a finite number, got inf"),
    "text array": (lambda: with_x0(np.array(["a"])), r"model\.initial\.x0 .*str32"),
    "masked array": (lambda: with_x0(np.ma.zeros(3)), r"model\.initial\.x0 .*MaskedArray"),
    "network alone": (
        lambda: MODELS["LBDN"](jnp.float64).explicit(),
        r"needs a parameterization or a system, got|Type-check error",
    ),
    "array": (lambda: jnp.zeros(3), r"needs a parameterization or a system, got|Type-check error"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_file_cannot_hold_is_named_before_anything_is_written(name, path):
    make, message = REFUSED[name]
    with pytest.raises((InvalidModelError, TypeError), match=message):
        save(path, make())
    assert not list(path.parent.iterdir())


def test_saving_inside_jit_is_refused(path):
    with pytest.raises(InvalidModelError, match="outside of jit"):
        eqx.filter_jit(lambda m: save(path, m))(MODELS["LBDN"](jnp.float32))


# Certificates


def test_a_given_certificate_is_kept_and_must_be_of_these_weights(path):
    model, other = (MODELS[name](jnp.float64) for name in ("LipschitzR2DN", "ContractingR2DN"))
    certificate = rc.certify(model, prove=False)
    save(path, model, certificate=certificate)
    assert inspect(path)["certificate"] == json.loads(certificate.to_json())
    with pytest.raises(InvalidModelError, match="must be of this model's weights"):
        save(path, other, certificate=certificate)


def test_stored_proofs_are_checked_without_a_search(path, monkeypatch):
    model = MODELS["ContractingR2DN"](jnp.float64)
    certificate = rc.certify(model)
    assert certificate.gain_proof is not None and certificate.rate_proof is not None
    save(path, model, certificate=certificate)
    monkeypatch.setattr("robustctl.certificates.prove.solve", None)
    load(path)
    smaller = 0.9 * certificate.gain_proof.value
    tamper(path, lambda header, arrays: header["certificate"]["gain_proof"].update(value=smaller))
    with pytest.raises(ModelFileError, match=r"stored proofs must hold, got .* gain"):
        load(path)


def test_a_certificate_that_no_longer_holds_is_refused(path):
    model = eqx.tree_at(lambda m: m.core.X, MODELS["ContractingR2DN"](jnp.float64), jnp.full((6, 6), jnp.nan))
    save(path, model)
    assert inspect(path)["certificate"]["holds"] is False
    load(path)
    tamper(path, lambda header, arrays: header["certificate"].update(holds=True))
    with pytest.raises(ModelFileError, match=r"certificate must still hold, got: .*not finite"):
        load(path)


def test_a_model_without_a_claim_is_saved_with_a_certificate_that_says_so(path):
    save(path, MODELS["GRU"](jnp.float64))
    assert inspect(path)["certificate"]["holds"] is False
    save(path, MODELS["LBDN"](jnp.float64))
    assert inspect(path)["certificate"] is None


# Damage


def test_flipped_bits_are_noticed(saved, path):
    rng = random.Random(0)
    header = 8 + int.from_bytes(saved[:8], "little")
    for k in range(60):
        at = rng.randrange(header if k % 2 else len(saved))
        data = bytearray(saved)
        data[at] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        with pytest.raises(ModelFileError):
            load(path)


def test_cut_files_are_noticed(saved, path):
    rng = random.Random(0)
    for at in [0, 1, 7, 8, 9, len(saved) - 1, *(rng.randrange(len(saved)) for _ in range(54))]:
        path.write_bytes(saved[:at])
        with pytest.raises(ModelFileError):
            load(path)


def test_appended_bytes_are_noticed(saved, path):
    path.write_bytes(saved + b"\0")
    with pytest.raises(ModelFileError, match="sha256"):
        load(path)


def test_other_files_are_refused_by_name(path):
    others = {
        "text": b"hello, this is no model",
        "zip": b"PK\3\4" + bytes(100),
        "empty": b"",
        "zeros": bytes(1000),
    }
    others["foreign"] = safetensors.numpy.save({"a": np.zeros(3)}, {"format": "pt"})
    for data in others.values():
        path.write_bytes(data)
        for read in (load, inspect):
            with pytest.raises(ModelFileError, match=r"model\.safetensors: .*written by robustctl"):
                read(path)
    with pytest.raises(FileNotFoundError):
        load(path.with_name("missing"))


# Files altered and sealed again


def reshape(name, shape):
    return lambda header, arrays: arrays.update({name: np.zeros(shape, np.float32)})


CORE = ("parameterization", "core")
GUARANTEE = ("parameterization", "guarantee")
ALTERED = {
    "unknown class": (
        lambda h, a: h["structure"].update({"class": "os.system"}),
        "known classes .*os.system",
    ),
    "class not text": (lambda h, a: h["structure"].update({"class": ["x"]}), "known classes .*a list"),
    "missing field": (lambda h, a: fields(h).pop("dt"), "exactly the fields"),
    "extra field": (edit(more=1), "exactly the fields .*more"),
    "fields not an object": (lambda h, a: h["structure"].update(fields=[]), "exactly the fields .*list"),
    "unknown function": (edit(*CORE, "phi", activation={"function": "eval"}), "known functions .*eval"),
    "unknown node": (edit(dt={"pickle": "gASV"}), r"model\.dt must be what rc\.save writes"),
    "missing array": (lambda h, a: a.pop("parameterization.core.X"), r"core\.X must be an array"),
    "extra array": (reshape("more", 3), "belong to a field, got also more"),
    "array of no kind": (edit(*CORE, X={"array": "torch"}), r"core\.X must be an array"),
    "scalar with a shape": (edit(*CORE, X={"array": "scalar"}), r"core\.X must be an array"),
    "rank": (reshape("parameterization.core.X", (6,)), "fit together"),
    "size of X": (reshape("parameterization.core.X", (4, 4)), "fit together"),
    "size that JAX would broadcast": (reshape("parameterization.core.by", (1,)), "fit together"),
    "depth": (edit("initial", "network", depth=10**9), "fit together"),
    "size of a bias": (reshape("parameterization.core.bv", (5,)), "fit together"),
    "size in phi": (reshape("parameterization.core.phi.layers.0.XY", (2, 2)), "fit together"),
    "size of the warm-up": (reshape("initial.network.layers.1.bias", (7,)), "fit together"),
    "window": (edit("initial", window=10**15), "fit together"),
    "channels": (edit(inputs=["u1"]), "fit together"),
    "names": (edit(inputs=5), "fit together"),
    "dt": (edit(dt=-1.0), "fit together"),
    "rate": (
        lambda h, a: (
            fields(h, *GUARANTEE).update(rate="fast"),
            a.pop("parameterization.guarantee.rate.words"),
        ),
        "fit together",
    ),
    "rate for every channel": (reshape("parameterization.guarantee.rate.words", (3, 2)), "fit together"),
    "static array": (edit("initial", window={"array": "jax"}), "must be an array"),
    "scaling": (lambda h, a: a.update({"scaling.u_std": np.zeros(2)}), "must be > 0"),
    "no model": (
        lambda h, a: (h.update(structure=None), a.clear()),
        "must be a parameterization or a system, got NoneType",
    ),
    "part of a model": (
        lambda h, a: (h.update(structure={"class": "ZeroState", "fields": {"window": 0}}), a.clear()),
        "must be a parameterization or a system, got ZeroState",
    ),
    "no structure": (lambda h, a: (h.pop("structure"), a.clear()), "must be a parameterization or a system"),
    "newer format": (
        lambda h, a: h.update(format=3),
        "at most 2, got 3, written by a newer robustctl: upgrade",
    ),
    "format of no kind": (lambda h, a: h.update(format=[1]), "integer of at least 1, got a list"),
    "certificate of no kind": (lambda h, a: h.update(certificate=[]), "certificate must have a boolean"),
}


@pytest.mark.parametrize("scales", [[1.0], [1.0, 2.0, 3.0], [1.0, 0.0], ["a", 1.0], 1.0])
@pytest.mark.parametrize("name", ["u_scale", "y_scale"])
def test_altered_scales_are_refused(name, scales, path):
    save(path, MODELS["Rescaled"](jnp.float32))
    tamper(path, edit(**{name: scales}))
    with pytest.raises(ModelFileError):
        load(path)


@pytest.mark.parametrize("name", ALTERED)
def test_altered_files_are_refused_even_with_the_right_hash(name, saved, path):
    change, message = ALTERED[name]
    path.write_bytes(saved)
    tamper(path, change)
    with pytest.raises(ModelFileError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))


def sealed(header: bytes, data: bytes = b"") -> bytes:
    """A file with any bytes as its safetensors header, and the right hash in it."""
    raw = len(header).to_bytes(8, "little") + header + data
    digest = hashlib.sha256(raw).hexdigest().encode()
    return raw.replace(b"0" * 64, digest, 1)


def text_with(more: str) -> str:
    return json.dumps({"sha256": "0" * 64}, separators=(",", ":"))[:-1] + more + "}"


def header_with(text: str, tensors: str = "") -> bytes:
    return ('{"__metadata__":{"robustctl":' + json.dumps(text) + "}" + tensors + "}").encode()


def tensor(shape, end: int) -> str:
    return ',"a":' + json.dumps({"dtype": "F32", "shape": shape, "data_offsets": [0, end]})


DEEP = "[" * 100_000 + "]" * 100_000
PLAIN = text_with(',"format":1,"structure":{"array":"jax"},"certificate":null')
CRAFTED = {
    "nested structure": sealed(header_with(text_with(f',"format":1,"structure":{DEEP}'))),
    "nested less": sealed(header_with(text_with(f',"format":1,"structure":{DEEP[99_900:-99_900]}'))),
    "nested unknown node": sealed(
        header_with(text_with(f',"format":1,"structure":{{"x":{DEEP[99_100:-99_100]}}}'))
    ),
    "nested format": sealed(header_with(text_with(f',"format":{DEEP[99_100:-99_100]}'))),
    "nested header": sealed(header_with(PLAIN, f',"a":{DEEP}')),
    "text is no object": sealed(header_with(json.dumps([json.loads(PLAIN)], separators=(",", ":")))),
    "no format": sealed(header_with(text_with(""))),
    "infinite number": sealed(header_with(text_with(',"format":1,"structure":1e999'))),
    "not a number": sealed(header_with(text_with(',"format":1,"structure":NaN'))),
    "huge number": sealed(header_with(text_with(',"format":1' + "0" * 10_000))),
    "huge shape": sealed(header_with(PLAIN, tensor([2**40], 4)), bytes(4)),
    "overflowing shape": sealed(header_with(PLAIN, tensor([2**62, 2**62], 4)), bytes(4)),
    "huge empty shape": sealed(header_with(PLAIN, tensor([0, 2**62], 0))),
    "array past the end": sealed(header_with(PLAIN, tensor([1000], 4000)), bytes(4)),
    "header of the wrong kind": sealed(b'["' + PLAIN.replace('"', '\\"').encode() + b'"]'),
    "two seals": sealed(header_with(PLAIN, ',"__b__":{"x":' + json.dumps(PLAIN) + "}")),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_headers_are_refused(name, path):
    path.write_bytes(CRAFTED[name])
    with pytest.raises(ModelFileError):
        load(path)


# 32 bits


def test_float64_arrays_are_not_cut_to_float32(path):
    save(path, MODELS["ContractingR2DN"](jnp.float64))
    with jax.enable_x64(False), pytest.raises(ModelFileError, match="jax_enable_x64"):
        load(path)


def test_float32_models_load_where_jax_runs_in_32_bits(path):
    save(path, MODELS["zero state"](jnp.float32))
    with jax.enable_x64(False):
        assert load(path).scaling.u_mean.dtype == np.float64


# Writing


def test_a_failed_save_leaves_the_old_file_and_nothing_else(saved, path, monkeypatch):
    path.write_bytes(saved)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(path, MODELS["LBDN"](jnp.float32))
    assert path.read_bytes() == saved
    assert list(path.parent.iterdir()) == [path]


def test_targets_that_cannot_be_written_are_named(path):
    model = MODELS["LBDN"](jnp.float32)
    with pytest.raises(FileNotFoundError, match="create it first"):
        save(path.parent / "missing" / "model", model)
    with pytest.raises(IsADirectoryError, match="add a file name"):
        save(path.parent, model)


def test_a_link_is_followed(saved, path):
    real = path.with_name("real")
    real.write_bytes(saved)
    path.symlink_to(real.name)
    save(path, MODELS["LBDN"](jnp.float32))
    assert path.is_symlink() and real.read_bytes() != saved


def test_leftovers_of_dead_processes_are_swept_and_others_kept(path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = {
        "swept": f".{path.name}.{atomic._HOST}-{dead.pid}.01234567.tmp",
        "alive": f".{path.name}.{atomic._HOST}-{os.getpid()}.01234567.tmp",
        "elsewhere": f".{path.name}.{'0' * 8}-{dead.pid}.01234567.tmp",
        "other target": f".other{path.name}.{atomic._HOST}-{dead.pid}.01234567.tmp",
        "mine": f".{path.name}.notes.tmp",
    }
    for name in names.values():
        (path.parent / name).touch()
    atomic.write_atomic(path, b"new")
    left = {file.name for file in path.parent.iterdir()}
    assert left == {path.name, *names.values()} - {names["swept"]}
    assert path.read_bytes() == b"new"


CHILD = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("atomic", sys.argv[1])
atomic = importlib.util.module_from_spec(spec)
spec.loader.exec_module(atomic)
target, data = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]).read_bytes()
while True:
    atomic.write_atomic(target, data)
    print(flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_save_leaves_a_whole_file(saved, path):
    source = path.with_name("source")
    source.write_bytes(saved)
    rng = random.Random(0)
    for _ in range(5):
        command = [sys.executable, "-c", CHILD, atomic.__file__, str(path), str(source)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            time.sleep(rng.uniform(0, 0.05))
            child.kill()
        assert path.read_bytes() == saved
    load(path)
    atomic.write_atomic(path, saved)
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, source.name]


def test_the_named_functions_are_told_apart():
    assert len({id(function) for function in FUNCTIONS.values()}) == len(FUNCTIONS)

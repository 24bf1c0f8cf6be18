"""Controllers as files: what comes back steps as what was saved, to the last bit, and nothing else comes back."""

import json
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import robustctl as rc
from robustctl.errors import InvalidModelError, ModelFileError
from robustctl.io.structure import CLASSES
from robustctl.system import Certifiable

from .controllers import CONTROLLERS, KEY, cart, design, lag, pid, q, sample, tanks
from .model_files import assert_same, edit, fields, tamper

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the bytes of a controller's file by name, each made once."""
    folder, made = tmp_path_factory.mktemp("controllers"), {}

    def of(name):
        if name not in made:
            system = CONTROLLERS[name]()
            rc.save(folder / "file", system)
            made[name] = system, (folder / "file").read_bytes()
        return made[name]

    return of


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "controller.safetensors"


def restored(path, data: bytes):
    path.write_bytes(data)
    return rc.load(path)


@eqx.filter_jit
def step(system, x, u):
    return system.step(x, u)


def bits(tree) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


SIGNALS = ("dt", "nu", "ny", "inputs", "outputs", "input_units", "output_units", "states", "references")


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_controller_comes_back_whole_and_steps_the_same_to_the_last_bit(name, saved, path):
    system, data = saved(name)
    loaded = restored(path, data)
    assert type(loaded) is type(system)
    assert_same(loaded, system)
    for signal in SIGNALS:
        assert getattr(loaded, signal) == getattr(system, signal), signal
    assert rc.certificates.fingerprint(loaded) == rc.certificates.fingerprint(system)
    x, u = sample(system, KEY)
    assert bits(step(loaded, x, u)) == bits(step(system, x, u))


def test_every_controller_estimator_and_loop_is_in_the_list():
    made = {type(part).__name__ for make in CONTROLLERS.values() for part in parts(make())}
    rooms = "loops", "classical", "plants", "state_space", "scaled", "delayed", "nn"
    known = {
        entry.cls.__name__
        for entry in CLASSES.values()
        if entry.cls.__module__.split(".")[1] in rooms and issubclass(entry.cls, Certifiable)
    }
    parameterizations = {
        n.__name__ for n in (e.cls for e in CLASSES.values()) if issubclass(n, rc.Parameterization)
    }
    plants = {"MagneticSuspension", "RotaryPendulum", "PlanarQuadrotor", "ReactionDiffusion"}
    assert known - parameterizations - plants <= made


def parts(value):
    yield value
    for part in (
        vars(value).values() if isinstance(value, eqx.Module) else value if isinstance(value, tuple) else ()
    ):
        yield from parts(part)


def test_single_precision_and_infinite_limits_are_kept(path):
    controller = loops_in_single()
    rc.save(path, controller)
    loaded = rc.load(path)
    assert_same(loaded, controller)
    rc.save(path, cart())
    force = rc.load(path).plant.controls[0]
    assert (force.name, force.unit, force.low, force.high) == ("force", "N", -3.0, 3.0)
    assert rc.load(path).plant.states[0].high == np.inf


def loops_in_single():
    with jax.enable_x64(False):
        return rc.loops.Parallel(pid(low=-1.0), q(nu=2, dtype=jnp.float32))


def test_a_controller_loads_in_a_fresh_process_that_imports_nothing_else(saved, path):
    path.write_bytes(saved("Youla")[1])
    code = f"""
import jax; jax.config.update("jax_enable_x64", True)
import robustctl as rc
controller = rc.load({str(path)!r})
print(type(controller).__name__, controller.dt, controller.inputs)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "Youla 2.0 ('lower',)"


# What cannot be saved


class OwnPlant(rc.plants.Plant):
    states = outputs = (rc.plants.Signal("speed", "m/s"),)
    controls = disturbances = (rc.plants.Signal("force", "N"),)

    def rates(self, x, u, d):
        return u + d - x


def own_base(**kw):
    given = {"correct": lambda x, e: 0.1 * e, "law": lambda x: -x} | kw
    return rc.loops.ModelBased(rc.plants.Sampled(OwnPlant(), 0.1), **given)


REFUSED = {
    "own plant": (lambda: rc.loops.Youla(own_base(), q()), r"model\.base\.model\.plant .*a OwnPlant.*@rc\.registered"),
    "function": (
        lambda: rc.loops.ModelBased(tanks(), lambda x, e: 0 * x, lambda x: x[:1]),
        r"model\.correct .*the function <lambda>.*equinox\.Module with @rc\.registered",
    ),
    "network alone": (lambda: rc.nn.LBDN(2, 2, (3,), key=KEY).explicit(), "needs a parameterization or a system, got Sandwich"),
    "design": (lambda: design(), r"needs a parameterization or a system, got LQG; .*\.controller"),
    "adaptive solver": (
        lambda: rc.plants.Sampled(rc.plants.TwoTanks(), 2.0, stepsize_controller=rc.plants.sampled.dfx.PIDController(1e-3, 1e-6)),
        r"model\.stepsize_controller .*PIDController",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_file_cannot_hold_is_named_with_what_to_do(name, path):
    make, message = REFUSED[name]
    with pytest.raises(InvalidModelError, match=message):
        rc.save(path, make())
    assert not path.exists()


def test_a_controller_whose_parts_do_not_fit_is_not_saved(path):
    controller = eqx.tree_at(lambda c: c.K, design().controller, jnp.zeros((1, 2)))
    with pytest.raises(InvalidModelError, match="fit together to a IntegralLQG"):
        rc.save(path, controller)
    assert not path.exists()


# Certificates


def test_a_loop_keeps_its_certificate_which_is_proven_again(path):
    loop = rc.loops.feedback(rc.loops.ModelPlant(lag()), pid())
    certificate = rc.certify(loop, gains=[("d", "y")])
    assert certificate.holds
    rc.save(path, loop, certificate=certificate)
    assert rc.io.inspect(path)["certificate"] == json.loads(certificate.to_json())
    assert_same(rc.load(path), loop)
    with pytest.raises(InvalidModelError, match="must be of this model's weights"):
        rc.save(path, rc.loops.feedback(rc.loops.ModelPlant(lag()), pid(b=0.5)), certificate=certificate)
    smaller = 0.9 * certificate.gains["d", "y"]
    tamper(path, lambda h, a: h["certificate"]["gain_proofs"][0]["proof"].update(value=smaller))
    with pytest.raises(ModelFileError, match=r"certificate must hold, got .* the gain from d to y"):
        rc.load(path)


def test_a_loop_with_other_weights_than_its_certificate_is_refused(path):
    loop = rc.loops.feedback(rc.loops.ModelPlant(lag()), pid())
    rc.save(path, loop, certificate=rc.certify(loop))
    tamper(path, lambda h, a: a.update({"policy.kp": 2 * a["policy.kp"]}))
    with pytest.raises(ModelFileError, match="certificate must be of this loop"):
        rc.load(path)


def test_the_certificate_of_a_controllers_model_is_rechecked(saved, path):
    path.write_bytes(saved("explicit R2DN")[1])
    assert rc.io.inspect(path)["certificate"]["holds"]
    tamper(path, lambda h, a: a.update(A=3 * np.eye(3)))
    with pytest.raises(ModelFileError, match="certificate must still hold"):
        rc.load(path)


# Files altered and sealed again


def array(**changed):
    return lambda h, a: a.update({name.replace("__", "."): value for name, value in changed.items()})


def outputs(part, ny, nu):
    """Give an R2DN with 3 states and 4 features another number of outputs."""
    shapes = {"C2": (ny, 3), "D21": (ny, 4), "D22": (ny, nu), "by": (ny,)}
    return array(**{f"{part}__{name}": np.zeros(shape) for name, shape in shapes.items()})


def node(cls, **values):
    return {"class": cls, "fields": values}


def unlimited(name):
    return node("plants.Signal", name=name, unit="", low=None, high=None)


def first_of_series(header, arrays):
    fields(header).update(first=node("ZeroState", window=0))
    del arrays["first.initial"]


ONE, NONE = np.ones(1), np.zeros((0, 1))
ALTERED = {
    "a base that is none": ("Youla", lambda h, a: (fields(h).update(base=fields(h)["q"]),), "belong to a field|array of the file"),
    "q without outputs": ("Youla", outputs("q", 0, 1), "fit together"),
    "q of more outputs": ("Youla", outputs("q", 2, 1), "q must read"),
    "law of more controls": ("Youla", array(base__law__K=np.zeros((2, 2)), base__law__u0=np.zeros(2)), "correction and law"),
    "correction that JAX would repeat": ("Youla", array(base__correct__L=np.zeros((1, 1))), "correction and law"),
    "plant's parameter per tank": ("Youla", array(base__model__plant__area=np.ones(2)), "area must have shape"),
    "noise in a model": ("Youla", edit("base", "model", "imperfections", noise=0.1), "without noise"),
    "delay": ("Youla", edit("base", "model", "imperfections", delay=-1), "delay must be a whole number"),
    "sample time": ("Youla", edit("base", "model", dt=0.0), "dt must be"),
    "steps": ("Youla", edit("base", "model", substeps="many"), "fails with"),
    "solver": ("Youla", edit("base", "model", solver=node("os.system")), "known classes .*os.system"),
    "solver of another kind": ("Youla", edit("base", "model", solver=unlimited("x")), "solver must be of the kind"),
    "PID's gain for two": ("PID", array(kp=np.ones(2)), "fit the other arrays"),
    "PID's limits": ("PID", array(low=2 * ONE), "low below high"),
    "PID's sample time": ("PID", edit(dt=-0.1), "dt must be"),
    "PID's outputs": ("PID", edit(reads=[]), "fit together"),
    "K": ("LQG", array(K=np.zeros((1, 2))), "fit together"),
    "integrators": ("LQG with integrators", array(Ki=np.zeros((1, 2))), "fit the other arrays"),
    "filter's offset": ("LQG", array(filter__y0=np.zeros(2)), "fit the other arrays"),
    "filter's sample time": ("LQG", edit("filter", dt=-1.0), "dt must be"),
    "integers": ("LQG", array(K=np.zeros((1, 3), np.int64)), "of the kind"),
    "reference": ("pole placement with observer", array(r0=np.zeros(7)), "references"),
    "operating point that JAX would repeat": ("error feedback", array(u0=np.zeros(3)), "controller's sizes"),
    "names": ("StateSpace", edit(inputs=["a", "b"]), "names"),
    "units": ("StateSpace", edit(output_units=[5]), "names and units|fit"),
    "states' names": ("StateSpace", edit(states=["x"]), "different names"),
    "state matrix": ("StateSpace", array(A=np.zeros((2, 1))), "fit the other arrays"),
    "covariance that JAX would repeat": ("EKF", array(V=np.zeros((2, 2))), "covariances"),
    "prior": ("EKF", array(x0=np.zeros(3)), "fit the other arrays"),
    "law of another estimate": ("feedback of a Kalman filter", array(law__K=ONE[None], law__x0=ONE, law__Ci=NONE), "law must read"),
    "references of parallel": ("parallel", outputs("second", 2, 2), "as many outputs"),
    "delay of a series": ("series", edit("first", samples=0), "samples must be"),
    "a plant's limits": ("loop", lambda h, a: fields(h, "plant", "plant")["controls"][0]["fields"].update(low=5.0), "low below high"),
    "a plant's name": ("loop", lambda h, a: fields(h, "plant", "plant")["controls"][0]["fields"].update(name=5), "name is a text"),
    "a signal that is none": ("loop", lambda h, a: fields(h, "plant", "plant").update(controls=["force"]), "tuple of rc.plants.Signal"),
    "a plant's matrix": ("loop", array(plant__plant__B=np.zeros((2, 2))), "fails with"),
    "noise per output": ("sampled plant", edit("imperfections", noise=[0.1, 0.2, 0.3]), "noise must be one number or 2 of them"),
    "prepared sample": ("prepared Youla", lambda h, a: a.update({"base.model.change.1": np.zeros((1, 1))}), "fit together"),
    "hidden layer": ("prepared R2DN", lambda h, a: a.update({"g": np.zeros(1)}), "fit the other arrays"),
    "rank of a map": ("Youla's map", array(t1__D=np.zeros(1)), "fails with: "),
    "limit": ("Youla's map", edit(limit=-1.0), "limit must be positive"),
    "cell": ("explicit GRU", array(cell__bias=np.zeros(1)), "shape"),
    "rate for every channel": ("explicit R2DN", array(rate=np.zeros(3)), "of the kind"),
    "horizon": ("nonlinear MPC", edit(horizon=0), "fit together"),
    "a model in a controller": ("series", first_of_series, "of the kind"),
}  # fmt: skip


@pytest.mark.parametrize("name", ALTERED)
def test_altered_controllers_are_refused_even_with_the_right_hash(name, saved, path):
    of, change, message = ALTERED[name]
    path.write_bytes(saved(of)[1])
    tamper(path, change)
    with pytest.raises(ModelFileError, match=message) as caught:
        rc.load(path)
    assert str(caught.value).startswith(str(path))


def test_random_changes_of_a_controllers_file_load_the_same_or_are_refused(saved, path):
    """Of 200 files with one number, name or shape of a Youla controller changed, each is refused or steps."""
    data = saved("Youla")[1]
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        path.write_bytes(data)
        tamper(path, lambda h, a: mutated(rng, h, a))
        try:
            loaded = rc.load(path)
        except ModelFileError:
            refused += 1
            continue
        x, u = sample(loaded, KEY)
        jax.eval_shape(loaded.step, x, u)
    assert refused > 100


def mutated(rng, header, arrays):
    """Change one array's shape or dtype, or one entry of the structure."""
    if rng.random() < 0.5:
        name = rng.choice(sorted(arrays))
        shape = tuple(rng.integers(0, 4, rng.integers(0, 3)))
        arrays[name] = np.ones(shape, rng.choice([np.float64, np.float32, np.int32, bool]))
        return
    nodes = list(leaves(header["structure"]))
    holder, key = nodes[rng.integers(len(nodes))]
    holder[key] = rng.choice(np.array([None, -1, 10**12, "x", 0.5, True, [], {}], object))


def leaves(node):
    """Yield where each entry of a structure is held."""
    for key in node if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from leaves(node[key])

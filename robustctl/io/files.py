"""Save a model or a controller to one file, and load it back checked."""

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ..certificates import Certificate
from ..checks import of_type
from ..errors import InvalidModelError, ModelFileError
from ..store.atomic import write_atomic
from ..store.container import pack, unpack
from ..system import Parameterization, System
from .format1 import upgrade
from .structure import decode, encode
from .verify import check_certificate, check_fit, check_origin, prove

_PACKAGES = ("robustctl", "jax", "equinox", "numpy")


def save(
    path: str | os.PathLike[str],
    model: Parameterization | System,
    *,
    certificate: Certificate | None = None,
) -> None:
    """Write a model or a controller, with its certificate, to one file that is replaced whole or left unchanged.

    The file is a safetensors file, so name it `.safetensors`; any name will do. It holds arrays, names and
    numbers, no code, and a sha256 over all of its bytes. It replaces a regular file or none; a symbolic link is followed
    and remains.

    **Arguments:**

    - `path`: where the file goes, in a folder that exists
    - `model`: a parameterization or a system made of registered classes: this package's models, controllers, estimators, loops and
      plants, `equinox.nn` networks (`MLP`, `Linear`, `GRUCell`, `LSTMCell`), your own with `rc.registered`, and the activations in
      `ACTIVATIONS`. A controller is whole: base, model of the plant, learned system, sample time, names, units and limits
    - `certificate`: what `rc.certify(model)` returned, of a loop too, so that it is not computed again

    **Raises:** `InvalidModelError` for a part that a file cannot hold, named by its path, or a certificate of another model;
    `FileNotFoundError` for a folder that does not exist, `IsADirectoryError` for a path that is a folder, `FileExistsError`
    for one that is a device, pipe or socket, `OSError` where the file cannot be written. An older file is then still there.

    **Example:** ::

        model = rc.nn.LipschitzR2DN(nu=1, nx=2, nv=4, ny=1, gamma=2.0, key=jax.random.key(0))
        rc.save("model.safetensors", model)
        print(rc.certify(rc.load("model.safetensors")))
    """
    target = Path(os.path.realpath(path))  # a rename would replace a link, not the file that it points to
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"a model file must go to a folder that exists, got {target.parent}; create it first"
        )
    if target.is_dir():
        raise IsADirectoryError(
            f"a model file must have a file name, got the folder {target}; add a file name"
        )
    do = "of what fit returns save .model, of a design .controller"
    of_type(
        model, (Parameterization, System), "save needs a parameterization or a system", do, InvalidModelError
    )
    arrays: dict[str, np.ndarray] = {}
    header = {"versions": _versions(), "structure": encode(model, ("model",), arrays)}
    check_fit(model, InvalidModelError)
    if certificate is None:
        certificate = prove(model)
    else:
        check_origin(certificate, model)
    header["certificate"] = None if certificate is None else json.loads(certificate.to_json())
    write_atomic(target, pack(header, arrays))


def load(path: str | os.PathLike[str]) -> Any:
    """Return the model of a file that `save` wrote, equal to the last bit.

    Every byte is checked against the file's sha256 first; then its parts, that its arrays fit together and,
    where its certificate reported that the guarantee holds, that it still does. Nothing in a file is run or
    imported.

    **Raises:** `ModelFileError` for a file that is damaged, altered, of a newer format or no model file, and
    for arrays in 64 bits where JAX runs in 32; `OSError` where the file cannot be read.

    **Example:** ::

        tanks = rc.plants.Sampled(rc.plants.TwoTanks(), dt=2.0)
        base = rc.classical.linear_base(tanks, [1.0, 1.0], 1.0, 0.1, 0.1)
        q = rc.nn.ContractingR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(3,), key=jax.random.key(0))
        rc.save("controller.safetensors", rc.loops.Youla(base, q.explicit()))
        controller = rc.load("controller.safetensors")      # base, model of the tanks and q
        x, u = controller.step(controller.init_state(), jnp.array([9.0]))
    """
    data = _read(path)
    with _about(path):
        header, arrays = unpack(data)
        if "program" in header:
            raise ModelFileError(
                "the file must hold a model, got a program that rc.export.runtime wrote; robustctl.runtime.load reads it"
            )
        structure = header.get("structure")
        # Upgraded before anything is built: today's classes have other fields.
        if header["format"] == 1:
            structure, arrays = upgrade(structure, arrays)
        model = decode(structure, arrays)
        check_fit(model)
        check_certificate(header.get("certificate"), model)
    return model


def inspect(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a model file holds, without building the model.

    Keys: `format`, `versions`, `structure`, `certificate` (a dict as `Certificate.to_json` writes it, or
    None), `sha256` and `arrays`, which gives `dtype` and `shape` by name.

    **Raises:** `ModelFileError` for a file that is damaged, altered, of a newer format or no model file.
    """
    data = _read(path)
    with _about(path):
        header, arrays = unpack(data)
    table = {
        name: {"dtype": str(arrays[name].dtype), "shape": list(arrays[name].shape)} for name in sorted(arrays)
    }
    return header | {"arrays": table}


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{path}: a model file is needed, and this is a folder") from None


@contextmanager
def _about(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except ModelFileError as error:
        raise ModelFileError(f"{os.fspath(path)}: {error}") from error.__cause__


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # run from a source tree that was never installed
            found[name] = "unknown"
    return found

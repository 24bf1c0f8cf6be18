"""Model files of format 1 (robustctl 0.1): their classes and array names, made into those of today.

A guarantee was then a class, and its numbers were fields of that class:

=============================================  ==================================================================
class of format 1                              today
=============================================  ==================================================================
`ContractingR2DN(X, ..., rate)`                `R2DN(core(X, ...), Contracting(rate))`
`LipschitzR2DN(core, gamma_start, ...)`        `R2DN(core, Lipschitz(rate, start, log_gamma_ratio))`
`DissipativeR2DN(core, Q, S, R)`               `R2DN(core, Dissipative(rate, Q, S, R))`, all three as for `REN`
`StableLinear`, `InnovationR2DN` (..., rate)   (..., `Contracting(rate)`)
`LipschitzStatic(phi, gamma)`                  `LipschitzStatic(phi, Lipschitz(gamma))`
`CorrectedR2DN(core, A, ...)`                  the same with `Fixed` matrices and the prior's metric P
=============================================  ==================================================================
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ModelFileError, RobustctlError
from ..nn.corrected import prior_metric

Arrays = dict[str, np.ndarray]
_UNREADABLE = (
    RobustctlError,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    RecursionError,
    np.linalg.LinAlgError,
)


def upgrade(structure: Any, arrays: Arrays) -> tuple[Any, Arrays]:
    """Return the structure and the arrays that a file of today has for the same model.

    **Raises:** `ModelFileError` for a structure that format 1 does not have.
    """
    left = dict(arrays)
    try:
        return _upgrade(structure, "", left), left
    except _UNREADABLE as error:
        raise ModelFileError(
            f"a file of format 1 must hold what robustctl 0.1 wrote, got one that fails with {type(error).__name__}: {error}; "
            "load it with robustctl 0.1 and save it again"
        ) from error


def _upgrade(node: Any, path: str, arrays: Arrays) -> Any:
    if type(node) is list:
        return [_upgrade(item, f"{path}{k}.", arrays) for k, item in enumerate(node)]
    if type(node) is not dict or node.keys() != {"class", "fields"}:
        return node
    fields = {name: _upgrade(item, f"{path}{name}.", arrays) for name, item in node["fields"].items()}
    made = _MADE.get(node["class"])
    return {"class": node["class"], "fields": fields} if made is None else made(fields, path, arrays)


def _contracting_model(cls: str) -> Callable:
    def made(fields: dict, path: str, arrays: Arrays) -> dict:
        rate = fields.pop("rate")
        # The free arrays were the model's own fields; today they are its core's.
        for name in [name for name in arrays if name.startswith(path)]:
            arrays[f"{path}core.{name[len(path) :]}"] = arrays.pop(name)
        return _model(
            cls, _node(f"Contracting{cls}Core", fields), "Contracting", {"rate": rate}, path, arrays
        )

    return made


def _lipschitz_model(cls: str) -> Callable:
    def made(fields: dict, path: str, arrays: Arrays) -> dict:
        ratio = fields["log_gamma_ratio"]
        if ratio is not None:
            arrays[f"{path}guarantee.log_gamma_ratio"] = arrays.pop(f"{path}log_gamma_ratio")
        core, rate = _core(fields, cls)
        numbers = {"rate": rate, "start": fields["gamma_start"]}
        return _model(cls, core, "Lipschitz", numbers, path, arrays, log_gamma_ratio=ratio)

    return made


def _dissipative_model(cls: str) -> Callable:
    def made(fields: dict, path: str, arrays: Arrays) -> dict:
        core, rate = _core(fields, cls)
        numbers = {"rate": rate, **{name: fields[name] for name in "QSR"}}
        return _model(cls, core, "Dissipative", numbers, path, arrays)

    return made


def _core(fields: dict, cls: str) -> tuple[dict, float]:
    """The unit-gain core, whose number of inputs follows from its arrays now, and the rate that it held."""
    inside = dict(fields["core"]["fields"])
    # A static field of format 1, which today follows from the shape of B_imp.
    inside.pop("nu", None)
    rate = inside.pop("rate")
    return _node(f"UnitGain{cls}Core", inside), rate


def _model(
    cls: str, core: dict, guarantee: str, numbers: dict, path: str, arrays: Arrays, **others: Any
) -> dict:
    fixed = _fixed(numbers, f"{path}guarantee.", arrays)
    return _node(cls, {"core": core, "guarantee": _node(guarantee, fixed | others)})


def _with_rate(cls: str) -> Callable:
    def made(fields: dict, path: str, arrays: Arrays) -> dict:
        fixed = _fixed({"rate": fields.pop("rate")}, f"{path}guarantee.", arrays)
        return _node(cls, {**fields, "guarantee": _node("Contracting", fixed)})

    return made


def _static(fields: dict, path: str, arrays: Arrays) -> dict:
    fixed = _fixed({"rate": 1.0, "start": fields.pop("gamma")}, f"{path}guarantee.", arrays)
    return _node(
        "LipschitzStatic", {**fields, "guarantee": _node("Lipschitz", {**fixed, "log_gamma_ratio": None})}
    )


def _corrected(fields: dict, path: str, arrays: Arrays) -> dict:
    words = arrays[f"{path}core.guarantee.rate.words"]
    numbers = {name: np.asarray(fields[name], np.float64) for name in "ABCDad"}
    numbers |= {name: np.ravel(numbers[name]) for name in "ad"}
    numbers["P"] = prior_metric(numbers["A"], float(words.view(np.float64)[0]))
    return _node("CorrectedR2DN", {"core": fields["core"], **_fixed(numbers, path, arrays)})


def _fixed(numbers: dict[str, Any], path: str, arrays: Arrays) -> dict[str, dict]:
    """Return a `Fixed` for each number, its float64's bits among the arrays."""
    # As `nn.Fixed` stores a float64: two words of 32 bits, in any JAX.
    for name, number in numbers.items():
        arrays[f"{path}{name}.words"] = np.asarray(number, np.float64)[..., None].view(np.uint32)
    return {name: _node("Fixed", {"words": {"array": "jax"}}) for name in numbers}


def _node(cls: str, fields: dict) -> dict:
    return {"class": cls, "fields": fields}


_MADE: dict[str, Callable[[dict, str, Arrays], dict]] = {
    "StableLinear": _with_rate("StableLinear"),
    "InnovationR2DN": _with_rate("InnovationR2DN"),
    "LipschitzStatic": _static,
    "CorrectedR2DN": _corrected,
    **{f"Contracting{cls}": _contracting_model(cls) for cls in ("R2DN", "REN")},
    **{f"Lipschitz{cls}": _lipschitz_model(cls) for cls in ("R2DN", "REN")},
    **{f"Dissipative{cls}": _dissipative_model(cls) for cls in ("R2DN", "REN")},
}

"""Fixed point in an exported folder: what its header adds, what `export.json` records, and how that is made again."""

import re
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from ..certificates import Certificate
from ..errors import InvalidModelError
from ..runtime.program import Program, blocks
from ..store.entries import entry
from ..system import System
from .compiled import CompiledStep
from .drift import Drift, drift, of_float
from .fixed import FixedPoint, arranged, bits_needed, drift_of
from .fixed_formats import bits_of, ranges, signals
from .fixed_lower import Lowered, lowered
from .measured import in_both, noise
from .trace import Traced, traced, tracing

_FLOAT_BITS = 22
"""With more bits the conversions take doubles, since floats would round the integers."""

_CONVERSIONS = """\
/* Returns a number as an integer, to the nearest and saturated; 0 for NaN. Give the scale of its signal. */
static inline int32_t NAME_integer(real number, real scale)
{
    const real scaled = number * scale;
    if (scaled != scaled) {
        return 0;
    }
    if (scaled >= (real)NAME_LIMIT) {
        return NAME_LIMIT;
    }
    if (scaled <= -(real)NAME_LIMIT) {
        return -NAME_LIMIT;
    }
    return (int32_t)(scaled < 0 ? scaled - HALF : scaled + HALF);
}

/* Returns the number that an integer means. */
static inline real NAME_number(int32_t integer, real scale)
{
    return (real)integer / scale;
}
"""


def header_lines(low: Lowered) -> list[str]:
    """Return what the header of a step of integers adds: the scales of its signals, and conversions from and to numbers."""
    name, macro, double = low.program.name, low.program.name.upper(), real_of(low) == "double"
    lines = [
        "/* Fixed point: a number is its integer divided by the scale of its signal. */",
        f"#define {macro}_LIMIT {(1 << low.bits) - 1}",
    ]
    for signal, n in low.fractions.items():
        lines.append(f"#define {macro}_{signal.upper()}_SCALE 0x1p{n:+d}{'' if double else 'f'}")
    text = re.sub(r"\breal\b", real_of(low), _CONVERSIONS)
    text = text.replace("HALF", "0.5" if double else "0.5f").replace("NAME_LIMIT", f"{macro}_LIMIT")
    return [*lines, "", *text.replace("NAME", name).splitlines(), ""]


def real_of(low: Lowered) -> str:
    """Return the type of numbers that the header converts from and to integers."""
    return "double" if low.bits > _FLOAT_BITS else "float"


def recorded(step: FixedPoint, seconds: float) -> dict[str, Any]:
    """Return what `export.json` records of a step of integers; `seconds`: time limit of each proof."""
    least, needed = step.lowered.bits + 1, None
    if step.certificate.rate_proof is None:
        needed = bits_needed(step.original, least=least, seconds=seconds)
    return {
        "fixed_point": {
            "bits": step.lowered.bits, "fractions": step.lowered.fractions, "sizes": list(step.sizes),
            "saturations": step.saturations, "constants_as_certified": step.constants_as_certified,
            "bits_needed": needed, "ranges": step.ranges, "never_saturates": step.never_saturates,
        },
        "drift": fields_of(step.drift),
    }  # fmt: skip


def fields_of(found: Drift | str) -> dict[str, Any] | str:
    """Return a bound as JSON can hold it."""
    return found if isinstance(found, str) else found.to_fields()


def again(system: System, about: dict[str, Any], u: PyTree) -> tuple[Traced, Lowered]:
    """Return the step of integers that `export.json` describes, of the system in its folder.

    **Raises:** `InvalidModelError` where the record is not one of this system.
    """
    bits, record = bits_of(about["dtype"]), about.get("fixed_point")
    with tracing(np.float64):
        exact = traced(system, name=about["name"], dtype=np.float64, u=u, dt=about["dt"], for_integers=True)
    values = [v for v in signals(exact.program) if v.dtype == "float"]
    sizes = entry(record, "sizes", list)
    numbers = all(isinstance(s, int | float) and 0 <= s < np.inf for s in sizes or ())
    if sizes is None or not numbers or len(sizes) != len(values) or bits is None:
        raise InvalidModelError("fixed_point must have the size of each value of the step; export again")
    low = lowered(exact.program, dict(zip(values, sizes, strict=True)), bits)
    return arranged(low, exact), low


def other_drift(low: Lowered, certificate: Certificate | None, about: dict[str, Any]) -> list[str]:
    """Return how the bound on the drift differs from that of the record."""
    given, counted = about.get("drift"), entry(about["fixed_point"], "saturations", dict)
    if certificate is None:
        return []
    found = fields_of(drift_of(low, certificate, counted or {}))
    if isinstance(found, dict) and isinstance(given, dict):
        same = found.keys() == given.keys() and all(
            np.allclose(found[key], given[key], rtol=1e-6, atol=0)
            for key in ("rate", "error", "bound", "state")
        )
    else:
        same = found == given
    return [] if same else ["the drift bound is not that of the constants and formats"]


def integer_noise(system: System, made: Traced, low: Lowered, samples: int) -> PyTree:
    """Return noise over the inputs as integers."""
    leaves, structure = jax.tree.flatten(made.u)
    floats = [leaf.astype(np.float64) if leaf.dtype == np.int32 else leaf for leaf in leaves]
    with tracing(np.float64):
        drawn = noise(system, made._replace(u=structure.unflatten(floats)), samples)
    return as_integers(made, low, drawn)


def as_integers(made: Traced, low: Lowered, us: PyTree) -> PyTree:
    """Return samples of the inputs as the integers that the step reads."""
    leaves, structure = jax.tree.flatten(us)
    names = iter(made.program.inputs)
    return structure.unflatten(
        [low.integers(next(names).name, a) if a[:1].size else a.astype(np.int32) for a in leaves]
    )


def same_integers(made: Traced, step: CompiledStep, us: PyTree) -> dict[str, Any]:
    """Return whether the compiled step gives the integers of the step in NumPy."""
    pairs = in_both(made, step, us)
    most = max((int(np.abs(a.astype(np.int64) - b).max()) for a, b in pairs), default=0)
    return {
        "samples": len(jax.tree.leaves(us)[0]), "largest_difference": float(most), "allowed": 0.0, "same_bits_as_numpy": most == 0,
    }  # fmt: skip


def _own_constants(program: Program, system: System) -> bool:
    """Return whether all constants of a program are numbers of its system's arrays."""
    arrays = [np.ravel(leaf) for leaf in jax.tree.leaves(system) if eqx.is_inexact_array(leaf)]
    known = np.concatenate([np.array([0.0, 1.0, np.inf, -np.inf]), *arrays])
    return all(
        bool(np.isin(np.asarray(v.data), known).all()) for v in program.constants if v.dtype == "float"
    )


def float_drift(
    system: System, made: Traced, certificate: Certificate, samples: int = 500
) -> dict[str, Any] | str:
    """Return the bound on the drift of a step of floats, for values in twice the ranges that noise over the inputs reaches."""
    program: Program = made.program
    if any(blocks(op) for op in program.operations) or any(len(op.results) != 1 for op in program.operations):
        return "the step has loops or factorizations"
    if any(v.dtype.startswith("int") for v in signals(program)):
        return "the step computes with integers"
    if not _own_constants(program, system):
        return "the step has constants that are computed, and rounded, from those of the certificate"
    us = [np.asarray(a) for a in jax.tree.leaves(noise(system, made, samples)) if 0 not in np.shape(a)]
    try:
        seen = {v: 2 * size for v, size in ranges(program, us).items()}
    except InvalidModelError as error:
        return str(error)
    units = {s.name: 1.0 for s in (*program.state, *program.outputs)}
    found = fields_of(drift(of_float(program, seen), certificate.rate_proof, units))
    seen_alone = {"for": "values in twice the ranges seen, which is not proven"}
    return found if isinstance(found, str) else found | seen_alone

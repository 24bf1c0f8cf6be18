"""What a loaded model must pass: parts that fit together, and a certificate that still holds."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..certificates import Certificate, certify, fingerprint
from ..checks import of_type
from ..data.record_checks import check_dt, check_names
from ..errors import ModelError, ModelFileError
from ..store.container import shown
from ..system import Parameterization, System, dtype_of
from ..train import FittedModel
from .shapes import check_shapes


def prove(model: Parameterization) -> Certificate | None:
    """Return a model's certificate; None for a network, which has none."""
    system = model.explicit()
    return certify(system) if isinstance(system, System) else None


def check_origin(certificate: Certificate, model: Parameterization) -> None:
    """Raise `ModelError` unless the certificate was made from this very model: its arrays, classes and static fields."""
    found = fingerprint(model.explicit())
    if certificate.fingerprint != found:
        raise ModelError(
            f"certificate must be of this model's weights, classes and settings, fingerprint {found[:16]}..., got "
            f"{certificate.fingerprint[:16] or 'an earlier version'}...; leave it out and it is computed"
        )


def check_certificate(stored: Any, model: Parameterization) -> None:
    """Raise `ModelFileError` where the stored certificate holds and one computed now does not."""
    if stored is None:
        return
    if not (isinstance(stored, dict) and isinstance(stored.get("holds"), bool)):
        raise ModelFileError(
            f"the certificate must have a boolean `holds`, got {shown(stored)}; save the model again"
        )
    # What did not hold when it was saved promises nothing that could be broken now.
    if not stored["holds"]:
        return
    try:
        found = prove(model)
    except Exception as error:
        raise ModelFileError(f"the certificate must hold, got a check that fails with: {error}") from error
    if found is None or not found.holds:
        reason = "there is nothing to certify" if found is None else found.reason
        raise ModelFileError(f"the certificate must still hold, got: {reason}; do not rely on this model")


def check_fit(model: Any) -> None:
    """Raise `ModelFileError` unless the model maps to a system that steps, found from shapes alone."""
    of_type(model, Parameterization, "the model must be a parameterization", "save one", ModelFileError)
    try:
        check_shapes(model)
        _check_call(eqx.filter_eval_shape(model.explicit))
        if isinstance(model, FittedModel):
            _check_identified(model)
    except Exception as error:
        raise ModelFileError(
            f"the parts must fit together to a {type(model).__name__}, got ones that fail with: "
            f"{str(error)[:300]}; save the model again"
        ) from error


def _check_call(system: Any) -> None:
    if not isinstance(system, System):  # a network alone, whose shapes were compared with its constructor's
        return
    if system.nu is None:
        raise ValueError(f"a {type(system).__name__} must know its number of inputs; give it an attribute nu")
    # From shapes alone: a damaged file must not be able to start a computation.
    x = eqx.filter_eval_shape(lambda s: s.init_state(), system)
    u = jax.ShapeDtypeStruct((system.nu,), dtype_of(system))
    x_next, y = eqx.filter_eval_shape(lambda s, x, u: s.step(x, u), system, x, u)
    _same(x_next, x, "the state after a step")
    if y.ndim != 1:
        raise ValueError(f"an output must be a vector, got shape {y.shape}")


def _check_identified(model: FittedModel) -> None:
    check_dt(model.dt)
    check_names(model.inputs, model.outputs)
    system = eqx.filter_eval_shape(model.explicit)
    sizes = (len(model.inputs), len(model.outputs))
    if (system.nu, system.ny) != sizes:
        raise ValueError(f"there must be a scale for each of {sizes} channels")
    x = eqx.filter_eval_shape(lambda s: s.init_state(), system)
    window = [jax.ShapeDtypeStruct((model.initial.window, n), model.dtype) for n in sizes]
    start = eqx.filter_eval_shape(
        lambda initial, u, y, zero: initial(u, y, jnp.zeros((), jnp.int32), zero), model.initial, *window, x
    )
    _same(start, x, "the initial state")


def _same(given: Any, expected: Any, what: str) -> None:
    if not eqx.tree_equal(given, expected):
        raise ValueError(f"{what} must be {expected}, got {given}")

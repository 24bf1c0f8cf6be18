"""Checks of what a user asks for, before anything is allocated."""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from typing_extensions import TypeIs

from .errors import ArgumentError, InvalidModelError, RobustctlError

Called = TypeVar("Called", bound=Callable[..., Any])
Kind = TypeVar("Kind")


def renamed(**now: str) -> Callable[[Called], Called]:
    """Return a decorator for a function or a settings class that refuses unknown keywords with what to give instead.

    `now`: by old name, what is given today. Other unknown names get the list of those there are.
    """

    def decorate(called: Called) -> Called:
        if not isinstance(called, type):
            return _refuse_unknown(called, called.__name__, now)  # pyright: ignore[reportReturnType]
        called.__init__ = _refuse_unknown(called.__init__, called.__name__, now)
        return called  # pyright: ignore[reportReturnType]

    return decorate


def _refuse_unknown(called: Callable, name: str, now: dict[str, str]) -> Callable:
    known = [parameter for parameter in inspect.signature(called).parameters if parameter != "self"]

    @functools.wraps(called)
    def checked(*args, **keywords):
        for keyword in keywords.keys() - set(known):
            instead = now.get(keyword)
            advice = f"give {instead}" if instead else f"it takes {', '.join(known)}"
            raise ArgumentError(f"{name} must be called with arguments it has, got {keyword}; {advice}")
        return called(*args, **keywords)

    return checked


def of_type(
    value: Any,
    kind: type[Kind] | tuple[type[Kind], ...],
    must: str,
    do: str = "",
    error: type[RobustctlError] = RobustctlError,
) -> Kind:
    """Return a value of a class.

    **Arguments:**

    - `value`: any.
    - `kind`: the class, or several.
    - `must`: what must hold, for the message.
    - `do`: what to do, for the message.
    - `error`: class of the error.

    **Raises:** `RobustctlError`, or `error`, for a value of another class.
    """
    if not isinstance(value, kind):
        raise error(f"{must}, got {type(value).__name__}{do and f'; {do}'}")
    return value


def made_of(value: Any, kind: type[Kind]) -> Kind:
    """Return a value of a class as it is, and an object of the class with any other value as its first argument."""
    return value if isinstance(value, kind) else kind(value)  # pyright: ignore[reportCallIssue]


def is_real(value: Any) -> TypeIs[float | int]:
    """Return whether a value is one real number of Python or NumPy, NaN and infinity included; True and False are none."""
    return isinstance(value, float | int | np.floating | np.integer) and not isinstance(value, bool)


def is_whole(value: Any, least: int) -> bool:
    """Return whether a value is a whole number of at least `least`; True and False are none."""
    return is_real(value) and not isinstance(value, float | np.floating) and bool(value >= least)


def is_positive(value: Any) -> bool:
    """Return whether a value is one positive, finite number; True is none."""
    return is_real(value) and bool(0 < value < math.inf)


def one_or_more(value: Any) -> Sequence[Any]:
    """Return a list or tuple as it is, and any other value as a list of one."""
    return value if isinstance(value, list | tuple) else [value]


def are_all(values: Any, kind: Any) -> bool:
    """Return whether a value is a list or tuple of instances of a class, or of one of a union of classes."""
    return isinstance(values, list | tuple) and all(isinstance(value, kind) for value in values)


def check_whole(least: int, **values: Any) -> None:
    """Raise `RobustctlError` unless every value is a whole number of at least `least`."""
    for name, value in values.items():
        if not is_whole(value, least):
            raise RobustctlError(f"{name} must be a whole number of at least {least}, got {value!r}")


def check_whole_or_none(least: int, **values: Any) -> None:
    """Raise `RobustctlError` unless every value is None or a whole number of at least `least`."""
    check_whole(least, **{name: value for name, value in values.items() if value is not None})


def checked_delays(delay: Any, nu: int | None) -> tuple[int, ...]:
    """Return a delay for each of `nu` inputs, or raise `RobustctlError`.

    **Arguments:**

    - `delay`: whole numbers of samples of at least 0: one for all inputs, or one for each.
    - `nu`: number of inputs.
    """
    given = list(delay) if isinstance(delay, list | tuple | np.ndarray) else [delay] * (nu or 1)
    if len(given) != nu or not all(is_whole(d, 0) for d in given):
        raise RobustctlError(
            f"a delay must be a whole number of samples of at least 0, or one for each of {nu} inputs, got {delay!r}"
        )
    return tuple(int(d) for d in given)


def check_sizes(**sizes: int) -> None:
    """Raise `InvalidModelError` unless every size is a whole number of at least 1."""
    for name, size in sizes.items():
        if not is_whole(size, 1):
            raise InvalidModelError(f"{name} must be a whole number of at least 1, got {size!r}")


def check_rate(rate: float) -> float:
    """Return the contraction rate as a float, or raise `InvalidModelError` outside (0, 1]."""
    if not (is_positive(rate) and rate <= 1):
        raise InvalidModelError(
            f"rate must be in (0, 1], got {rate!r}; it is the factor by which two trajectories approach "
            "each other each sample, and 1.0 asks only that they do"
        )
    return float(rate)


def check_gamma(gamma: float) -> float:
    """Return the gain bound as a float, or raise `InvalidModelError` unless it is positive and finite."""
    if not is_positive(gamma):
        raise InvalidModelError(f"gamma must be a positive, finite gain from input to output, got {gamma!r}")
    return float(gamma)


def check_supply(Q: np.ndarray, S: np.ndarray, R: np.ndarray) -> None:
    """Raise `InvalidModelError` unless the matrices are those of a supply rate, in float64.

    **Arguments:**

    - `Q`: (ny, ny), must be symmetric and negative definite
    - `S`: (nu, ny)
    - `R`: (nu, nu), must be symmetric, with `R - S Q^-1 S'` positive definite
    """
    nu, ny = len(R), len(Q)
    for name, M, shape in (("Q", Q, (ny, ny)), ("S", S, (nu, ny)), ("R", R, (nu, nu))):
        if M.shape != shape:
            raise InvalidModelError(f"{name} must have shape {shape} for nu = {nu}, ny = {ny}, got {M.shape}")
        if not np.isfinite(M).all():
            raise InvalidModelError(f"{name} must be finite, got {M.tolist()}")
        if name != "S" and not np.allclose(M, M.T):
            raise InvalidModelError(f"{name} must be symmetric, got {M.tolist()}; use ({name} + {name}')/2")
    # Without Q < 0 nothing bounds the output: V(dx+) - V(dx) <= dy' Q dy + ... would allow any dy.
    worst = float(np.linalg.eigvalsh(Q)[-1])
    if not worst < 0:
        raise InvalidModelError(
            f"Q must be negative definite, got a largest eigenvalue of {worst:.4g}; "
            "for a passive model give Q = -rho I with a small rho > 0"
        )
    # The largest supply over dy, at dy = -Q^-1 S' du: where it is not positive, du alone violates the inequality.
    least = float(np.linalg.eigvalsh(R - S @ np.linalg.solve(Q, S.T))[0])
    if not least > 0:
        raise InvalidModelError(
            f"R - S Q^-1 S' must be positive definite, got a smallest eigenvalue of {least:.4g}; "
            "no model with outputs satisfies this supply rate: increase R or reduce Q"
        )


def weight(M: Any, n: int, what: str, *, definite: bool) -> np.ndarray:
    """Return a weight as a symmetric (n, n) matrix; a number or a vector is a diagonal.

    **Arguments:**

    - `M`: the matrix, its diagonal, or one number for the whole diagonal
    - `n`: number of rows
    - `what`: its name for messages
    - `definite`: whether it must be positive definite rather than semidefinite

    **Raises:** `InvalidModelError` for another shape, and for a matrix that is not symmetric and positive (semi)definite.
    """
    M = np.asarray(M, float)
    M = M * np.eye(n) if M.ndim == 0 else np.diag(M) if M.ndim == 1 else M
    if M.shape != (n, n):
        raise InvalidModelError(f"{what} must be {n} by {n}, or {n} diagonal entries, got shape {M.shape}")
    # Relative to the diagonal, so that neither test depends on the units of the channels.
    diagonal = np.abs(np.diagonal(M))
    unit = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    own = M / unit / unit[:, None]
    # 1e-8: what several products round a symmetric matrix apart by, far below any asymmetry that is meant.
    if not np.isfinite(M).all() or not np.allclose(own, own.T, rtol=1e-8, atol=1e-12):
        raise InvalidModelError(f"{what} must be finite and symmetric, got {M.tolist()}")
    # A product like C' C has eigenvalues of zero that rounding makes slightly negative: -1e-9 relative is let pass.
    # A definite weight is inverted, so it must be above rounding, 1e-14.
    low = np.linalg.eigvalsh(own).min(initial=np.inf)
    if low < (1e-14 if definite else -1e-9) or (definite and not (np.diagonal(M) > 0).all()):
        kind = "definite" if definite else "semidefinite"
        raise InvalidModelError(
            f"{what} must be positive {kind}, got the eigenvalue {np.linalg.eigvalsh(M).min():.6g}"
        )
    return (M + M.T) / 2

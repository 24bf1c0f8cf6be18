"""Rollouts of an R2DN in parallel over time: iterations over whole trajectories in place of a scan.

::

    x[t+1] = f(x[t], u[t]),   r[t] = f(x[t], u[t]) - x[t+1],   x <- x + dx,   dx[t+1] = M[t] dx[t] + r[t]

=============  ==========================================  ====================================================
method         M                                           converges
=============  ==========================================  ====================================================
"picard"       A                                           at the gain of the linear part, at most 1, times that
                                                           of phi: for every contracting R2DN
"mean-slope"   the mean of df/dx over the samples          faster, without a proof: Picard where it does not
"newton"       df/dx of every sample                       quadratically
=============  ==========================================  ====================================================

Each iteration is one pass of the network over all samples and one linear recurrence in about log2(T) products.
If none converges within its limit, the scan computes the result, so only time is lost.
Gradients solve the adjoint recurrence, which is linear, in the same way.

Sources: Newton [LZS23] Lim, Zhu, Selfridge, Kasim, "Parallelizing non-linear sequential models over the sequence
length", arXiv 2309.12252; why contraction makes it fast [GC25] "Predictability enables parallelization of nonlinear
state space models", arXiv 2508.16817.
"""

from typing import get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..checks import of_type
from ..errors import RobustctlError
from ..system import System, Trajectory
from .converge import Effort, converge
from .recurrence import Method, recurrence

STAGES: dict[str, tuple[Method, ...]] = {
    "picard": ("picard",),
    "mean-slope": ("mean-slope", "picard"),
    "newton": ("newton",),
}
"""The stages of each method, in order, before the scan."""

LIMIT = 50
"""Iterations of each stage."""

_LONG = 1024  # samples: estimated from the time a GPU takes to launch a scan's steps, not measured


def parallel_rollout(
    system: System,
    us: Float[Array, "T nu"],
    x0: Float[Array, " nx"] | None = None,
    *,
    method: Method = "mean-slope",
    limit: int = LIMIT,
) -> tuple[Trajectory, Effort]:
    """Return the same trajectory as a scan, and the effort.

    ::

        stop where  |dx| max(1, q / (1 - q)) <= eps^(3/4) |x|,   q = |dx| / |dx of the iteration before|

    in the maximum norm; `|dx| q / (1 - q)` estimates the remaining distance to the limit, as of a geometric series.
    Differentiable once, in reverse mode, in the system's arrays, `us` and `x0`; batches are `jax.vmap`, which
    iterates until the slowest has converged.

    **Arguments:**

    - `system`: an `ExplicitR2DN`, or a `Scaled` one.
    - `us`: `(T, nu)`.
    - `x0`: the initial state, `system.init_state()` where None.
    - `method`: "picard", "mean-slope" or "newton"; the module's table compares them.
    - `limit`: iterations of each stage.

    **Raises:** `RobustctlError` for a system that is not an R2DN, an unknown method and a limit below 1.
    """
    _check(system, method, limit)
    x0 = system.init_state() if x0 is None else x0
    return _parallel_rollout(system, us, x0, method, limit)


def worthwhile(system: System, samples: int) -> bool:
    """Return whether iterations over all samples are expected to be faster than a scan: for a long sequence, on an accelerator.

    A CPU is busy with one sample after the other. A GPU waits for each step's kernels to be launched.
    """
    return jax.default_backend() != "cpu" and samples >= _LONG and system.state_matrix() is not None


@eqx.filter_jit
@jax.named_scope("robustctl.parallel_rollout")
def _parallel_rollout(system, us, x0, method, limit):
    # Prepared outside `_solution`, so that its gradient is taken once in a batch and not once per sequence.
    x_nexts, ys, effort = _solution((system.prepare(), us, x0), method, limit)
    return Trajectory(_before(x0, x_nexts), ys, jnp.concatenate([x0[None], x_nexts])[-1]), effort


def _check(system, method, limit) -> None:
    must = (
        "the system of a parallel rollout must have a state_matrix(), as an ExplicitR2DN or a Scaled one has"
    )
    do = "use method='scan', or call explicit() on an R2DN first"
    if of_type(system, System, must, do).state_matrix() is None:
        raise RobustctlError(f"{must}, got {type(system).__name__}; {do}")
    if method not in get_args(Method):
        raise RobustctlError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    if limit < 1:
        raise RobustctlError(f"limit must be a number of iterations of at least 1, got {limit}")


@eqx.filter_custom_vjp
def _solution(arguments, method, limit):
    """Return the states after each sample, the outputs and the effort."""
    with jax.default_matmul_precision("highest"):  # TF32 would leave errors above the tolerance
        system, us, x0 = arguments
        step = jax.vmap(system.step)

        def correct(stage):
            def correction(x_nexts):
                xs = _before(x0, x_nexts)
                solve = recurrence(stage, system, xs, us)
                return solve(step(xs, us)[0] - x_nexts)

            return correction

        def sequential():
            def body(x, u):
                x_next = system.step(x, u)[0]
                return x_next, x_next

            return lax.scan(body, x0, us)[1]

        guess = jnp.zeros((len(us), x0.size), x0.dtype)
        corrections = [correct(stage) for stage in STAGES[method]]
        x_nexts, effort = converge(corrections, guess, sequential, limit)
        return x_nexts, step(_before(x0, x_nexts), us)[1], effort


@_solution.def_fwd
def _forward(perturbed, arguments, method, limit):
    out = _solution(arguments, method, limit)
    return out, out[0]


@_solution.def_bwd
def _backward(x_nexts, out_bars, perturbed, arguments, method, limit):
    """Solve the adjoint recurrence, then apply the step's vector-Jacobian product to all samples at once.

    ::

        l[t] = xbar[t] + df/dx[t]' l[t+1] + dy/dx[t]' ybar[t],   l[T] = xbar[T]
    """
    with jax.default_matmul_precision("highest"):
        system, us, x0 = arguments
        xs = _before(x0, x_nexts)
        x_bars = jnp.zeros_like(x_nexts) if out_bars[0] is None else out_bars[0]
        _, pull = eqx.filter_vjp(lambda s, u, x: jax.vmap(s.step)(x, u), system, us, xs)
        y_bars = _cotangent(system, us, xs, out_bars[1])
        adjoint, _ = _adjoint(system, us, xs, x_bars, y_bars, method, limit)
        system_bar, us_bar, xs_bar = pull((adjoint, y_bars))
        return system_bar, us_bar, xs_bar[0]


def _cotangent(system, us, xs, y_bars):
    if y_bars is not None:
        return y_bars
    y = eqx.filter_eval_shape(jax.vmap(system.step), xs, us)[1]
    return jnp.zeros(y.shape, y.dtype)


def _adjoint(system, us, xs, x_bars, y_bars, method, limit):
    """Return `l[1] .. l[T]` and the effort, given the cotangents of `x[1] .. x[T]` and of the outputs."""
    _, pull = jax.vjp(lambda x: jax.vmap(system.step)(x, us), xs)

    def correct(stage):
        solve = recurrence(stage, system, xs, us, reverse=True)

        def correction(adjoint):
            (pulled,) = pull((adjoint, y_bars))
            return solve(x_bars + _after(pulled) - adjoint)

        return correction

    def sequential():
        def body(adjoint, sample):
            x, u, y_bar, x_bar = sample
            total = adjoint + x_bar
            _, pull = jax.vjp(lambda x: system.step(x, u), x)
            return pull((total, y_bar))[0], total

        return lax.scan(body, jnp.zeros_like(xs[0]), (xs, us, y_bars, x_bars), reverse=True)[1]

    corrections = [correct(stage) for stage in STAGES[method]]
    return converge(corrections, jnp.zeros_like(x_bars), sequential, limit)


def _before(x0, x_nexts):
    """Shift by one sample: the states before each sample from those after it."""
    return jnp.concatenate([x0[None], x_nexts])[:-1]


def _after(pulled):
    """Shift by one sample the other way, with zero after the last."""
    return jnp.concatenate([pulled[1:], jnp.zeros_like(pulled[:1])])

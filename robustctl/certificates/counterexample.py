"""Inputs and states that disprove contraction: the useful answer where no certificate can exist."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from ..checks import check_whole, of_type
from ..errors import RobustctlError
from ..system import Parameterization, System, Trajectory, explicit_of
from ..trajectory import rollout
from .separation import Separation, separation, vector

_INPUTS, _STATES = 33, 8
"""Constant inputs, and initial states for each: a step of a quarter where one input is scaled to deviation one."""

_RANGE = 4.0
"""Constant inputs go so many standard deviations from the mean: a record holds few samples beyond."""

_NEWTON = 20
"""Steps of Newton's method, which doubles the correct digits in each once it is near."""

_SETTLED = 1e-3
"""Change in one sample, relative to the distance, below which both limits count as equilibria."""

_EXCEEDS = 1e-3
"""A spectral radius above one by less is not counted: rounding of float32 in the Jacobian of a hundred states."""


@dataclasses.dataclass(frozen=True)
class Counterexample:
    """Two trajectories under one constant input that do not approach each other.

    **Arguments:**

    - `kind`: "two equilibria", "unstable equilibrium", "no approach" or "divergence".
    - `reason`: what happens, in words with numbers.
    - `u`: one sample of the input, which is held.
    - `x0`: first initial state.
    - `x1`: second initial state.
    - `samples`: length of the run in which it was found.
    """

    kind: str
    reason: str
    u: PyTree
    x0: PyTree
    x1: PyTree
    samples: int

    def __str__(self) -> str:
        """Return kind and reason."""
        return f"{self.kind}: {self.reason}"

    def inputs(self, samples: int | None = None) -> PyTree:
        """Return the input as a sequence, time first, of the length of the run or another."""
        length = samples or self.samples
        return jax.tree.map(lambda a: jnp.broadcast_to(a, (length, *jnp.shape(a))), self.u)

    def replay(
        self, model: Parameterization | System, samples: int | None = None
    ) -> tuple[Trajectory, Trajectory]:
        """Return both trajectories of the model in which it was found."""
        system, us = explicit_of(model), self.inputs(samples)
        return rollout(system, us, self.x0), rollout(system, us, self.x1)


def counterexample(
    model: Parameterization | System,
    *,
    inputs: PyTree = None,
    states: PyTree = None,
    samples: int = 5000,
    spread: float = 1.0,
    seed: int = 0,
) -> Counterexample | None:
    """Search for a constant input under which a system does not forget its initial state.

    ::

        x* = f(x*, u):   two of them under one u, or a spectral radius of df/dx(x*, u) above 1;
        |x0[t] - x1[t]| that does not shrink between samples/4 .. samples/2 and 3 samples/4 .. samples;
        states that grow without bound

    Any of them disproves contraction, so that no certificate can exist. The search needs `step` alone and proves nothing where it
    finds nothing.

    **Arguments:**

    - `model`: a parameterization, a system or a loop.
    - `inputs`: constant inputs to try, (n, nu) or a pytree with a leading axis; default 33 within 4 standard deviations of a fitted
      model's record, within 4 of zero for other systems with `nu`, and a loop's `undisturbed()` sample.
    - `states`: initial states, state first; default the system's own, seven normally distributed ones around it.
    - `samples`: of each run.
    - `spread`: standard deviation of the default states, relative where a state is above one.
    - `seed`: of inputs and states.

    **Raises:** `RobustctlError` for something that is no system, fewer than 8 samples, fewer than two states, and `InvalidModelError`
    for a system whose input is unknown, without `inputs`.

    **Example:** ::

        gru = rc.nn.GRU(nu=1, nx=4, ny=1, key=jax.random.key(0))
        found = rc.certificates.counterexample(gru, samples=400)
        print("none found" if found is None else found)
    """
    system = of_type(
        explicit_of(model),
        System,
        "counterexample needs a parameterization or a system",
        "of what fit returns give .model",
    )
    check_whole(8, samples=samples)
    if vector(system.init_state()).size == 0:
        return None  # nothing to forget
    rng = np.random.default_rng(seed)
    us = _constants(system, rng) if inputs is None else inputs
    x0s = _states(system, spread, rng) if states is None else states
    if len(jax.tree.leaves(x0s)[0]) < 2:
        raise RobustctlError(
            "there must be at least 2 initial states to compare, got fewer; give more in states"
        )
    us, x0s = (jax.tree.map(jnp.asarray, tree) for tree in (us, x0s))
    return _limits(system, us, x0s, samples) or _unstable(system, us, x0s, samples)


def _constants(system: System, rng: np.random.Generator) -> PyTree:
    if system.input_size is None:
        return jax.tree.map(lambda a: jnp.asarray(a)[None], system.one_sample())
    grid = np.linspace(-_RANGE, _RANGE, _INPUTS)
    # A Latin hypercube: each input takes all levels, in a separate order.
    us = np.stack([grid if k == 0 else rng.permutation(grid) for k in range(system.nu)], axis=1)
    us = us.reshape(_INPUTS, system.nu)
    middle, size = system.input_range()
    us = middle + us * size
    for k in system.flags:
        us[:, k] = rng.integers(0, 2, len(us))
    return us.astype(vector(system.init_state()).dtype)


def _states(system: System, spread: float, rng: np.random.Generator) -> PyTree:
    def around(x):
        x = jnp.asarray(x)
        repeated = jnp.broadcast_to(x, (_STATES, *x.shape))
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return repeated
        away = spread * rng.standard_normal((_STATES, *x.shape)) * np.maximum(np.abs(x), 1.0)
        away[0] = 0.0
        return repeated + jnp.asarray(away, x.dtype)

    return jax.tree.map(around, system.init_state())


@eqx.filter_jit
def _held(system: System, us: PyTree, x0s: PyTree, samples: int) -> Separation:
    system = system.prepare()
    return jax.vmap(lambda u: separation(system, jax.tree.map(lambda a: a[None], u), x0s, samples))(us)


def _limits(system: System, us: PyTree, x0s: PyTree, samples: int) -> Counterexample | None:
    """Return what simulation finds: two limits under one input, or growth."""
    run = jax.tree.map(np.asarray, _held(system, us, x0s, samples))
    far, size = run.far[:, 3], run.size[:, 3]
    bounded = run.apart & ~run.diverging
    if bounded.any():
        n, m = _largest(np.where(bounded, far, -1.0))
        still = max(run.moved[n, 0], run.moved[n, m]) < _SETTLED * far[n, m]
        kind, pair = "two equilibria" if still else "no approach", (0, m)
        what = (
            f"two states end {far[n, m]:.3g} apart after {samples} samples, and the distance does not shrink"
        )
    elif run.diverging.any():
        n, m = _largest(run.diverging)
        grown = f"{size[n, m]:.3g}" if np.isfinite(size[n, m]) else "numbers that are not finite"
        kind, pair = "divergence", (m, 0 if m else 1)
        what = f"a state grows to {grown} within {samples} samples"
    else:
        return None
    x0, x1 = (_entry(x0s, k) for k in pair)
    return Counterexample(
        kind, f"under the constant input {_text(us, n)} {what}", _entry(us, n), x0, x1, samples
    )


@eqx.filter_jit
def _newton(system: System, us: PyTree, x0s: PyTree) -> tuple[PyTree, Array, Array]:
    """Return equilibria near the states, the last Newton step relative to each, and the Jacobians there."""
    start = jax.tree.map(lambda x: x[0], x0s)
    floating, fixed = eqx.partition(start, eqx.is_inexact_array)
    unravel = ravel_pytree(floating)[1]

    def one(u, x0):
        def residual(z):
            return vector(system.step(eqx.combine(unravel(z), fixed), u)[0]) - z

        def body(z, _):
            step = jnp.linalg.solve(jax.jacfwd(residual)(z), residual(z))
            return z - step, jnp.linalg.norm(step) / (1 + jnp.linalg.norm(z))

        z, steps = jax.lax.scan(body, vector(x0), None, length=_NEWTON)
        return (
            eqx.combine(unravel(z), fixed),
            steps[-1],
            jax.jacfwd(residual)(z) + jnp.eye(z.size, dtype=z.dtype),
        )

    return jax.vmap(lambda u: jax.vmap(lambda x: one(u, x))(x0s))(us)


def _unstable(system: System, us: PyTree, x0s: PyTree, samples: int) -> Counterexample | None:
    """Return an equilibrium whose linearization is unstable, or none."""
    found, last, jacobians = _newton(system, us, x0s)
    J = np.asarray(jacobians, np.float64)
    # Quadratic convergence has ended long before the last step, which is rounding where there is an equilibrium.
    good = np.isfinite(J).all(axis=(-2, -1)) & (np.asarray(last) < 1e-3)
    values, vectors = np.linalg.eig(np.where(good[..., None, None], J, 0.0))
    radius = np.max(np.abs(values), axis=-1, initial=0.0)
    n, m = _largest(radius)
    if not radius[n, m] > 1 + _EXCEEDS:
        return None
    direction = np.real(vectors[n, m][:, np.argmax(np.abs(values[n, m]))])
    x0 = _entry(_entry(found, n), m)
    floating, fixed = eqx.partition(x0, eqx.is_inexact_array)
    z, unravel = ravel_pytree(floating)
    x1 = eqx.combine(unravel(z + jnp.asarray(1e-3 * (1 + np.abs(z).max()) * direction, z.dtype)), fixed)
    reason = f"under the constant input {_text(us, n)} an equilibrium has the spectral radius {radius[n, m]:.6g}, which must be below 1"
    return Counterexample("unstable equilibrium", reason, _entry(us, n), x0, x1, samples)


def _largest(values: np.ndarray) -> tuple[int, ...]:
    return tuple(int(k) for k in np.unravel_index(np.argmax(values), values.shape))


def _entry(tree: PyTree, k: int) -> PyTree:
    return jax.tree.map(lambda a: a[k], tree)


def _text(us: PyTree, n: int) -> str:
    """Return the entries of a sample of the input, the first few where there are many."""
    entries = np.concatenate([np.ravel(np.asarray(leaf)[n]) for leaf in jax.tree.leaves(us)])
    shown = ", ".join(f"{value:.4g}" for value in entries[:4])
    return f"[{shown}{', ...' if entries.size > 4 else ''}]"

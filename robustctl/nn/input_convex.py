"""Recurrent networks whose outputs are convex functions of the whole sequence of inputs, with their exact gain.

No weight from a state to a state or to an output is negative. Sums of convex functions with weights that are not negative are
convex, and so is a convex nondecreasing function of one: by induction over the samples every state and output is.
"""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import check_gamma, check_rate, check_sizes
from ..errors import InvalidModelError
from ..lft import LFT, Claim, float64
from ..linalg import exact_map
from ..registry import registered
from ..state_space import DirectPath
from .activations import Activation, name_of, neurons
from .arrays import check_free, check_one, check_shapes, free_dtype, number
from .guarantee import Guaranteed, Lipschitz
from .initializers import check_memory, draw
from .numpy_maps import zeros
from .positive import FAINT, positive_metric, room, static_gain

CONVEX: dict[str, Activation] = {
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "softplus": jax.nn.softplus,
    "identity": jax.nn.identity,
}
"""Activations that are convex and nondecreasing, with slopes in [0, 1]."""


@registered()
class InputConvexSystem(DirectPath):
    """An `InputConvexRNN` ready to step.

    ::

        h+ = activation(U h + W u + b),     y = C h + D u + by,     U >= 0,   C >= 0

    **Arguments:**

    - `U`: (nx, nx), no entry negative.
    - `W`: (nx, nu).
    - `b`: offset of the states, (nx,).
    - `C`: (ny, nx), no entry negative.
    - `D`: (ny, nu).
    - `by`: offset of the outputs, (ny,).
    - `gamma`: gain bound that it was built for.
    - `rate`: contraction rate per sample that it was built for.
    - `activation`: elementwise, convex and nondecreasing, slope in [0, 1].
    """

    U: Float[Array, "nx nx"]
    W: Float[Array, "nx nu"]
    b: Float[Array, " nx"]
    C: Float[Array, "ny nx"]
    D: Float[Array, "ny nu"]
    by: Float[Array, " ny"]
    gamma: Float[Array, ""] | float
    rate: Float[Array, ""] | float
    activation: Activation = eqx.field(static=True, default=jax.nn.relu)

    def init_state(self) -> Float[Array, " nx"]:
        """Return the zero state."""
        return jnp.zeros_like(self.b)

    def step(
        self, x: Float[Array, " nx"], u: Float[Array, " {self.nu}"]
    ) -> tuple[Float[Array, " nx"], Float[Array, " {self.ny}"]]:
        """Return `(x_next, y)`."""
        check_one(self, self.b)
        return self.activation(self.U @ x + self.W @ u + self.b), self.C @ x + self.D @ u + self.by

    def check_parts(self) -> None:
        """Refuse arrays that do not fit each other, and an activation that is not known to be convex.

        **Raises:** `InvalidModelError`.
        """
        check_one(self, self.b)
        nx, nu, ny = self.b.size, self.nu, self.by.size
        check_shapes(self, U=(nx, nx), W=(nx, nu), C=(ny, nx), D=(ny, nu))
        _check_convex(self.activation)

    def check_convex(self) -> None:
        """Refuse weights of which the outputs are no convex functions of the inputs.

        **Raises:** `InvalidModelError` for a negative or infinite weight from a state, as well as what `check_parts` refuses.
        """
        self.check_parts()
        for name, M in zip("UC", float64(self.U, self.C), strict=True):
            if not (np.all(M >= 0) and np.isfinite(M).all()):
                raise InvalidModelError(
                    f"{name} must have no negative entry for the outputs to be convex in the inputs, got a least one of {M.min():.4g}; "
                    "an InputConvexRNN's explicit() has none"
                )

    def lft(self) -> LFT:
        """Return the form: the neurons as one block, `v = U h + W u`, whose outputs are the next states."""
        self.check_parts()
        nx, U, W, C, D = self.b.size, *float64(self.U, self.W, self.C, self.D)
        block, assumptions = neurons(nx, self.activation, (self.b.dtype,))
        none = np.zeros((nx, nx))
        return LFT(
            none, np.eye(nx), np.zeros_like(W), U, none, W, C, np.zeros_like(C), D, (block,), assumptions
        )

    @property
    def claim(self) -> Claim:
        """The rate and the gain, with a diagonal metric that is each neuron's multiplier as well."""
        gamma, rate = check_gamma(number(self, "gamma")), check_rate(number(self, "rate"))
        supply = -np.eye(self.ny) / gamma, np.zeros((self.nu, self.ny)), gamma * np.eye(self.nu)
        margin = room(self.b.dtype) / 2
        U, W, C, D = float64(self.U, self.W, self.C, self.D)
        diagonal = positive_metric(U, W, C, D, rate * (1 - margin), gamma)
        if diagonal is None:
            return Claim(rate, None, supply, None)
        # The metric is that of |dy|^2 <= gamma^2 |du|^2, the supply rate is this over gamma.
        return Claim(rate, np.diag(diagonal / gamma), supply, (diagonal / gamma,))

    def gain_bound(self) -> float:
        """Return the gain `|C (I - U)^-1 |W| + |D||` of the linear system that dominates this one.

        No smaller number bounds the gain for all activations of slope in [0, 1] where each input acts in one direction alone:
        `activation = identity` reaches it, at frequency 0. Infinite where an eigenvalue of U is 1 or more.
        """
        self.check_convex()
        U, W, C, D = float64(self.U, self.W, self.C, self.D)
        G = static_gain(U, np.abs(W), C, np.abs(D), 1.0)
        return math.inf if G is None else float(np.linalg.norm(G, 2))


def _sizes(model: "InputConvexRNN") -> dict[str, Any]:
    return {
        "nu": model.W.shape[1], "nx": model.b.size, "ny": model.by.size, "gamma": 1.0, "directions": model.directions,
        "direct": model.D is not None, "train_gamma": model.guarantee.log_gamma_ratio is not None,
    }  # fmt: skip


@registered(sizes=_sizes)
class InputConvexRNN(Guaranteed):
    """Recurrent network whose outputs are convex in the whole sequence of inputs, with a prescribed gain and rate.

    ::

        h+ = activation(U h + W u + b),     y = C h + D u + by,     U >= 0,   C >= 0,   sums of rows of U below rate

        max_i |dh_i+| <= rate max_i |dh_i|     for equal inputs,        |C (rate I - U)^-1 |W| + |D|| <= gamma

    Slopes in [0, 1] and weights that are not negative give `|dh+| <= U |dh| + |W| |du|` entry by entry: a positive linear system
    dominates the network, and its gain is that at frequency 0. The bound is therefore nearly reached where each input acts
    in one direction. With `relu` this is every network of nonnegative U with eigenvalues within `rate`, up to the units of its states.
    No eigenvalue is larger than a real positive one, and where each input acts in one direction no gain is larger than that at frequency
    0: the model has no resonance. An output is convex, so that an upper limit on it is a convex constraint on the inputs, and a lower
    limit is none.
    Source: the idea is that of Wang, Wu, "Input convex Lipschitz RNN", arXiv 2401.07494, whose norms bound one step
    alone; map, bound and metric are ours.

    **Arguments:**

    - `nu`: number of inputs.
    - `nx`: number of states, which are neurons.
    - `ny`: number of outputs.
    - `gamma`: gain bound, positive, outputs' unit over inputs' unit.
    - `rate`: in (0, 1], per sample.
    - `directions`: of each input: 1 where no output falls as it grows, -1 where none rises, 0 where both may be; default 0.
    - `direct`: whether an output depends on the input of the same sample; model-predictive control needs False.
    - `activation`: `jax.nn.relu`, `leaky_relu`, `softplus` or `identity`.
    - `train_gamma`: whether training may move `gamma`.
    - `memory`: shortest and longest time constant of the states at the start, samples, at a rate of 1; a smaller rate shortens them.
    - `key`: seeds the initial values, one PRNG key.
    - `dtype`: of the free arrays, float32 or float64; default that of JAX.

    **Raises:** `InvalidModelError` for a size below 1, directions that are not one of -1, 0 and 1 for each input, an activation that is
    not known to be convex, another dtype, gamma not positive and finite, a rate outside (0, 1], and a memory that is not finite.

    **Example:** ::

        model = rc.nn.InputConvexRNN(nu=2, nx=8, ny=1, gamma=2.0, directions=(1, -1), key=jax.random.key(0))
        print(rc.certify(model, prove=False).gamma, model.explicit().gain_bound())
    """

    Z: Float[Array, "nx nx_1"]
    W: Float[Array, "nx nu"]
    b: Float[Array, " nx"]
    C: Float[Array, "ny nx"]
    D: Float[Array, "ny nu"] | None
    by: Float[Array, " ny"]
    guarantee: Lipschitz
    directions: tuple[int, ...] = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self, *, nu: int, nx: int, ny: int, gamma: float, rate: float = 1.0, directions: Sequence[int] | None = None,
        direct: bool = True, activation: Activation = jax.nn.relu, train_gamma: bool = False,
        memory: tuple[float, float] = (2.0, 200.0), key: PRNGKeyArray, dtype=None,
    ):  # fmt: skip
        check_sizes(nu=nu, nx=nx, ny=ny)
        check_memory(memory)
        _check_convex(activation)
        dtype = free_dtype(dtype)
        self.guarantee = Lipschitz(gamma, rate, trainable=train_gamma).for_ports(nu, ny, dtype)
        self.directions, self.activation = _checked(directions, nu), activation
        shapes = [(nx, nx + 1), (nx, nu), (nx,), (ny, nx), (ny, nu)]
        signed = np.array(self.directions) != 0
        self.Z, self.W, self.b, self.C, D = draw(
            lambda rng: _start(rng, shapes, signed, memory), shapes, dtype, key
        )
        self.D, self.by = D if direct else None, zeros(ny, dtype)

    @exact_map
    def explicit(self) -> InputConvexSystem:
        """Map to the model; differentiable, one solve with an (nx, nx) matrix."""
        check_free(self, self.b)
        dtype, nx = self.b.dtype, self.b.size
        rate, gamma, margin = self.rate, self.guarantee.gamma(dtype), room(self.b.dtype)
        # The column after the last is what each row's sum leaves below one: enough for the rounding of the others.
        U = rate * (1 - 16 * margin) * jax.nn.softmax(self.Z, axis=1)[:, :nx]
        W, C = self._turned(self.W), jax.nn.softplus(self.C)
        D = jnp.zeros((self.by.size, W.shape[1]), dtype) if self.D is None else self._turned(self.D)
        G = _gain_matrix(U, jnp.abs(W), C, jnp.abs(D), rate * (1 - margin))
        scale = gamma / jnp.maximum(gamma, (1 + margin) * jnp.linalg.norm(G, 2))
        return InputConvexSystem(
            U, W, self.b, scale * C, scale * D, self.by, gamma, self.rate, self.activation
        )

    def _turned(self, M: Float[Array, "n nu"]) -> Float[Array, "n nu"]:
        """Return a matrix with the columns of inputs that act in one direction of that sign."""
        sign = np.array(self.directions, self.b.dtype)
        return jnp.where(sign[None] == 0, M, sign[None] * jax.nn.softplus(M))

    def quiet(self, factor: float = 1e-2) -> "InputConvexRNN":
        """Return the model with its output scaled down by `factor`."""
        # Of the outputs within gamma: the free arrays may be of a larger gain, that the map would scale down again.
        system, D = self.explicit(), None
        if self.D is not None:
            D = factor * system.D
            D = jnp.where(np.array(self.directions)[None] == 0, D, _inverse_softplus(jnp.abs(D)))
        arrays = (_inverse_softplus(factor * system.C), D, factor * self.by)
        return eqx.tree_at(lambda m: (m.C, m.D, m.by), self, arrays, is_leaf=lambda x: x is None)


def _gain_matrix(U: Array, W: Array, C: Array, D: Array, rate: Array) -> Array:
    """Return the static gain at `rate` in JAX, of states that all are driven and seen: at least what `static_gain` returns."""
    W, C = (M + FAINT * jnp.where(jnp.max(M) > 0, jnp.max(M), 1.0) for M in (W, C))
    return C @ jnp.linalg.solve(rate * jnp.eye(len(U), dtype=U.dtype) - U, W) + D


def _inverse_softplus(t: Any, xp: Any = jnp) -> Any:
    # log(e^t - 1), without overflow and without cancellation
    return t + xp.log(-xp.expm1(-t))


def _checked(directions: Sequence[int] | None, nu: int) -> tuple[int, ...]:
    found = (0,) * nu if directions is None else tuple(directions)
    if len(found) != nu or not all(d in (-1, 0, 1) for d in found):
        raise InvalidModelError(
            f"directions must be one of -1, 0 and 1 for each of {nu} inputs, got {directions!r}; 1 where no output falls as the input grows"
        )
    return tuple(int(d) for d in found)


def _check_convex(activation: Any) -> None:
    if not any(activation is known for known in CONVEX.values()):
        raise InvalidModelError(
            f"activation must be convex and nondecreasing with slopes in [0, 1], got {name_of(activation)}; use one of {', '.join(CONVEX)}"
        )


def _start(
    rng: np.random.Generator,
    shapes: list[tuple[int, ...]],
    signed: np.ndarray,
    memory: tuple[float, float],
) -> list[np.ndarray]:
    """Return Z, W, b, C and D of states with time constants spread evenly on a logarithmic scale, each of a gain of order one."""
    nx, ny = shapes[0][0], shapes[3][0]
    shortest, longest = np.log(memory)
    lost = -np.expm1(-1 / np.exp(rng.uniform(shortest, longest, nx)))
    # Of what a state loses in a sample, one half goes to the others.
    shares = np.exp(rng.normal(size=(nx, nx + 1)))
    shares[:, :nx][np.eye(nx, dtype=bool)] = 0
    shares[:, :nx] /= np.maximum(shares[:, :nx].sum(axis=1, keepdims=True), 1e-300)
    shares[:, nx] = 1.0
    shares *= lost[:, None] / 2
    shares[:, :nx][np.eye(nx, dtype=bool)] = 1 - lost * (0.5 if nx == 1 else 1.0)
    W, b, C, D = (rng.normal(size=shape) for shape in shapes[1:])
    W, b = lost[:, None] * np.where(signed, np.abs(W), W), lost * b
    C, D = np.abs(C) / nx, 0.1 * np.where(signed, np.abs(D), D) / ny

    def free(M, softplus):
        return np.where(softplus, _inverse_softplus(np.maximum(np.abs(M), 1e-6), np), M)

    return [np.log(shares), free(W, signed), b, free(C, True), free(D, signed)]

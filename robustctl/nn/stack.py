"""Deep stacks: diagonal recurrences with networks between them, which run parallel in time.

Between two recurrences no signal goes back in time, so a whole record passes one layer after the other: a network sees
all samples in one product of matrices, and a diagonal recurrence is all that is left to a scan.
"""

import functools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import check_gamma, check_rate, check_sizes
from ..errors import InvalidModelError
from ..lft import LFT, Claim, block_diagonal
from ..linalg import exact_map
from ..registry import registered
from ..system import System
from .activations import Activation
from .arrays import check_free, check_one, check_shapes, free_dtype, number
from .bypass import BypassLBDN, BypassNetwork
from .diagonal import DiagonalParameters, DiagonalRecurrence
from .guarantee import Guaranteed, Lipschitz
from .initializers import check_memory, split
from .lipschitz import bounded
from .numpy_maps import zeros

_PIECE = 512
"""Samples of a piece on a CPU: measured among 32 to 512 at batches of 1 and 16."""


@registered()
class StackSystem(System):
    """A `Stack` ready to step; its state is a vector: those of all recurrences, one after the other.

    **Arguments:**

    - `recurrences`: linear and diagonal.
    - `networks`: one between each recurrence and the next.
    - `by`: offset of the output, (ny,).
    - `gamma`: gain bound that it was built for.
    - `rate`: contraction rate per sample that it was built for.
    """

    recurrences: tuple[DiagonalRecurrence, ...]
    networks: tuple[BypassNetwork, ...]
    by: Float[Array, " ny"]
    gamma: Float[Array, ""] | float
    rate: Float[Array, ""] | float

    @property
    def nu(self) -> int:
        """Number of inputs."""
        return self.recurrences[0].D.shape[1]

    @property
    def ny(self) -> int:
        """Number of outputs."""
        return self.by.size

    def init_state(self) -> Float[Array, " nx"]:
        """Return the zero state."""
        return jnp.zeros(sum(r.nx for r in self.recurrences), self.by.dtype)

    def step(
        self, x: Float[Array, " nx"], u: Float[Array, " {self.nu}"]
    ) -> tuple[Float[Array, " nx"], Float[Array, " {self.ny}"]]:
        """Return `(x_next, y)`."""
        check_one(self, self.by)
        states, v = [], u
        for k, own in enumerate(self._split(x)):
            x_next, z = self.recurrences[k].step(own, v)
            states.append(x_next)
            v = self.networks[k](z) if k < len(self.networks) else z
        return jnp.concatenate(states), v + self.by

    def scan(self, x0: Float[Array, " nx"], us: Float[Array, "T nu"]) -> tuple[Array, Array, Array]:
        """Return `(xs, ys, x_final)` over a sequence, layer by layer; on a CPU piece by piece, which stay in its cache."""
        check_one(self, self.by)
        samples = len(us)
        if jax.default_backend() != "cpu" or samples <= _PIECE:
            return self.layer_by_layer(x0, us)
        # Equal pieces of one sample more than there are: the state before that one is the last.
        pieces = -(-(samples + 1) // _PIECE)
        length = -(-(samples + 1) // pieces)
        padded = jnp.pad(us, ((0, pieces * length - samples), (0, 0))).reshape(pieces, length, -1)

        # Of each piece its gradient stores the state before it alone, and computes the others again.
        @functools.partial(jax.checkpoint, prevent_cse=False)
        def body(x, piece):
            xs, ys, x_next = self.layer_by_layer(x, piece)
            return x_next, (xs, ys)

        _, run = lax.scan(body, x0, padded)
        xs, ys = (a.reshape(pieces * length, -1) for a in run)
        return xs[:samples], ys[:samples], xs[samples]

    def layer_by_layer(self, x0: Float[Array, " nx"], us: Float[Array, "T nu"]) -> tuple[Array, Array, Array]:
        """Return `(xs, ys, x_final)`: one layer after the other, each over all samples."""
        states, last, vs = [], [], us
        for k, own in enumerate(self._split(x0)):
            xs, zs, x_final = self.recurrences[k].over(own, vs)
            states, last = [*states, xs], [*last, x_final]
            vs = jax.vmap(self.networks[k])(zs) if k < len(self.networks) else zs
        return jnp.concatenate(states, axis=1), vs + self.by[None], jnp.concatenate(last)

    def _split(self, x: Array) -> list[Array]:
        return jnp.split(x, np.cumsum([r.nx for r in self.recurrences])[:-1])

    def check_parts(self) -> None:
        """Refuse recurrences and networks that do not fit each other.

        **Raises:** `InvalidModelError`.
        """
        check_one(self, self.by)
        if len(self.networks) != len(self.recurrences) - 1:
            raise InvalidModelError(
                f"there must be a network between each two recurrences, got {len(self.recurrences)} recurrences and "
                f"{len(self.networks)} networks"
            )
        n = self.nu
        for k, recurrence in enumerate(self.recurrences):
            n = recurrence.check(n)
            if k < len(self.networks):
                network = self.networks[k]
                check_shapes(network, A=(network.b.size, n))
                n = network.b.size
        check_shapes(self, by=(n,))

    def lft(self) -> LFT:
        """Return the form: the recurrences in their blocks, `v_k = C_k x_k + D_k w_{k-1}`, and a block a network."""
        self.check_parts()
        matrices = [r.matrices() for r in self.recurrences]
        A, B, C, D = (block_diagonal(blocks) for blocks in zip(*matrices, strict=True))
        found = [bounded(f, f.ni, f.b.size) for f in self.networks]
        nv = sum(block.nv for block, _ in found)
        # Inputs of all recurrences are [u; w], their outputs [v; y].
        nu = self.nu
        assumptions = dict.fromkeys(text for _, texts in found for text in texts)
        return LFT(
            A, B[:, nu:], B[:, :nu], C[:nv], D[:nv, nu:], D[:nv, :nu], C[nv:], D[nv:, nu:], D[nv:, :nu],
            tuple(block for block, _ in found), tuple(assumptions),
        )  # fmt: skip

    @property
    def claim(self) -> Claim:
        """The rate and the gain, with the metric `gamma I`: the sum of what each layer keeps, multiplied by gamma."""
        gamma, n = check_gamma(number(self, "gamma")), sum(r.nx for r in self.recurrences)
        supply = -np.eye(self.ny) / gamma, np.zeros((self.nu, self.ny)), gamma * np.eye(self.nu)
        multipliers = tuple(np.full(1, gamma) for _ in self.networks)
        return Claim(check_rate(number(self, "rate")), gamma * np.eye(n), supply, multipliers)


def _sizes(model: "Stack") -> dict[str, Any]:
    sizes = [r.sizes for r in model.recurrences]
    first = {"nu": sizes[0][0], "ny": sizes[-1][2], "states": sizes[0][1], "layers": len(sizes), "gamma": 1.0}
    first["train_gamma"] = model.guarantee.log_gamma_ratio is not None
    if not model.networks:
        return first
    hidden = tuple(layer.d.size for layer in model.networks[0].layers)
    return first | {"nv": model.networks[0].b.size, "hidden": hidden}


@registered(sizes=_sizes)
class Stack(Guaranteed):
    """Deep stack of diagonal recurrences with a prescribed gain and rate, whatever the free arrays.

    ::

        w_0 = u,     x_k+ = A_k x_k + B_k w_{k-1},     v_k = C_k x_k + D_k w_{k-1},     w_k = phi_k(v_k)
        y = v_L + by,     A_k = diag(poles), |poles| <= rate

        gamma sum_k |dx_k+|^2 - rate^2 gamma sum_k |dx_k|^2 <= gamma |du|^2 - |dy|^2 / gamma

    Each recurrence has gain at most one and each network, a `BypassLBDN`, is 1-Lipschitz: the layers' inequalities add up.
    `D_k` leads past a recurrence, the bypass of `phi_k` past its neurons. A rollout runs in parallel over time: the networks see all
    samples at once, and the recurrences are an associative scan on an accelerator and an elementwise scan on a CPU. What
    `rc.certify` proves from `lft()` is at most the prescribed gain, and often below it.
    Source: the parameterization is ours; stacks of diagonal recurrences are those of Smith, Warrington, Linderman,
    "Simplified state space layers for sequence modeling", ICLR 2023, and Orvieto et al., "Resurrecting recurrent neural networks for
    long sequences", ICML 2023, which have no bound.

    **Arguments:**

    - `nu`: number of inputs.
    - `ny`: number of outputs.
    - `states`: of each recurrence; pairs of them are complex modes.
    - `layers`: number of recurrences; 1 is a linear model, 2 contain the Wiener-Hammerstein models.
    - `nv`: number of features between two recurrences; default `states`.
    - `hidden`: widths of the hidden layers of each network, at least one.
    - `activation`: elementwise, slope in [0, 1].
    - `gamma`: gain bound, positive, outputs' unit over inputs' unit.
    - `rate`: in (0, 1], per sample.
    - `train_gamma`: whether training may move `gamma`.
    - `memory`: shortest and longest time constant of the modes at the start, samples; a rate below 1 shortens them.
    - `key`: seeds the initial values, one PRNG key.
    - `dtype`: of the free arrays, float32 or float64; default that of JAX.

    **Raises:** `InvalidModelError` for a size below 1, no hidden layer, another dtype, a slope outside [0, 1], gamma not positive and
    finite, a rate outside (0, 1], and a memory that is not finite, for which a rate of 1 would leave no gain bound.

    **Example:** ::

        model = rc.nn.Stack(nu=1, ny=1, states=8, layers=2, hidden=(8,), gamma=2.0, rate=0.99, key=jax.random.key(0))
        print(rc.certify(model, prove=False).gamma)
    """

    recurrences: tuple[DiagonalParameters, ...]
    networks: tuple[BypassLBDN, ...]
    by: Float[Array, " ny"]
    guarantee: Lipschitz

    def __init__(
        self, *, nu: int, ny: int, states: int, layers: int, nv: int | None = None, hidden: Sequence[int] = (32,),
        activation: Activation = jax.nn.relu, gamma: float, rate: float = 1.0, train_gamma: bool = False,
        memory: tuple[float, float] = (2.0, 200.0), key: PRNGKeyArray, dtype=None,
    ):  # fmt: skip
        nv = states if nv is None else nv
        check_sizes(nu=nu, ny=ny, states=states, layers=layers, nv=nv)
        check_memory(memory)
        dtype = free_dtype(dtype)
        self.guarantee = Lipschitz(gamma, rate, trainable=train_gamma).for_ports(nu, ny, dtype)
        keys = split(key, 2 * layers - 1)
        widths = (nu, *[nv] * (layers - 1), ny)
        self.recurrences = tuple(
            DiagonalParameters(widths[k], states, widths[k + 1], memory, keys[k], dtype)
            for k in range(layers)
        )
        self.networks = tuple(
            BypassLBDN(nv, nv, hidden, activation=activation, key=k, dtype=dtype) for k in keys[layers:]
        )
        self.by = zeros(ny, dtype)

    @exact_map
    def explicit(self) -> StackSystem:
        """Map to the model."""
        check_free(self, self.by)
        rate, gamma = self.rate, self.guarantee.gamma(self.by.dtype)
        *before, last = (parameters.explicit(rate) for parameters in self.recurrences)
        scaled = eqx.tree_at(lambda r: (r.C, r.D), last, (gamma * last.C, gamma * last.D))
        networks = tuple(network.explicit() for network in self.networks)
        return StackSystem((*before, scaled), networks, self.by, gamma, rate)

    def quiet(self, factor: float = 1e-2) -> "Stack":
        """Return the model with its output scaled down by `factor`."""
        last = self.recurrences[-1]
        return eqx.tree_at(lambda m: m.recurrences[-1], self, last.quiet(factor))

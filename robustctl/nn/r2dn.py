"""The robust recurrent deep network (R2DN): a linear system in feedback with a 1-Lipschitz network.

[BWM25] Barbara, Wang, Manchester, "R2DN: Scalable parameterization of contracting and Lipschitz recurrent
deep networks", arXiv 2504.01250. [RWM23] Revay, Wang, Manchester, "Recurrent equilibrium networks",
IEEE TAC 2023.

Free arrays and guarantees, one core (`bounded_real`):

=====================  ==========================================  =================================
class                  guarantee for every set of free arrays      what it is given
=====================  ==========================================  =================================
`ContractingR2DN`      two trajectories approach each other        `rate`
`LipschitzR2DN`        and the gain is at most gamma               `rate`, `gamma`
`DissipativeR2DN`      and the supply rate (Q, S, R) is respected  `rate`, `Q`, `S`, `R`
=====================  ==========================================  =================================
"""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import Rows, check_gamma, check_rate, check_sizes, check_supply
from ..lft import LFT, Claim, float64
from ..linalg import exact_map, headroom
from ..registry import registered
from ..system import Parameterization, System
from .activations import Activation
from .bounded_real import bounded_real, feedthrough
from .folded import fold
from .initializers import Initializer, default_dtype, lecun_normals, random, split
from .lipschitz import bounded, check_phi
from .numpy_maps import first_feedthrough, norm, zeros
from .sandwich import LBDN, SandwichNetwork
from .supply import Supply, gain_supply, in_float64, through_ports


class ExplicitR2DN(System):
    """An R2DN ready to step.

    ::

        x+ = A x + B1 w + B2 u + bx
        v  = C1 x + D12 u + bv
        w  = phi(v)
        y  = C2 x + D21 w + D22 u + by

    with the metric `P` of its storage function `V = dx' P dx`, the contraction `rate` and the supply rate
    that it was built for (None: contraction alone). These last three are what `certify` checks; stepping
    does not use them. Source: [BWM25], eqs. (2)-(4).
    """

    A: Float[Array, "nx nx"]
    B1: Float[Array, "nx nv"]
    B2: Float[Array, "nx nu"]
    C1: Float[Array, "nv nx"]
    C2: Float[Array, "ny nx"]
    D12: Float[Array, "nv nu"]
    D21: Float[Array, "ny nv"]
    D22: Float[Array, "ny nu"]
    bx: Float[Array, " nx"]
    bv: Float[Array, " nv"]
    by: Float[Array, " ny"]
    phi: Callable
    P: Float[Array, "nx nx"]
    supply: Supply | None
    rate: float = eqx.field(static=True)

    @property
    def nu(self) -> int:
        """Number of inputs."""
        return self.D22.shape[1]

    @property
    def ny(self) -> int:
        """Number of outputs."""
        return self.D22.shape[0]

    def init_state(self) -> Float[Array, " {self.A.shape[0]}"]:
        """Return the zero state."""
        return jnp.zeros_like(self.bx)

    def step(
        self, x: Float[Array, " {self.A.shape[0]}"], u: Float[Array, " {self.B2.shape[1]}"]
    ) -> tuple[Float[Array, " {self.A.shape[0]}"], Float[Array, " {self.C2.shape[0]}"]]:
        """Return `(x_next, y)`."""
        w = self.phi(self.C1 @ x + self.D12 @ u + self.bv)
        x_next = self.A @ x + self.B1 @ w + self.B2 @ u + self.bx
        y = self.C2 @ x + self.D21 @ w + self.D22 @ u + self.by
        return x_next, y

    @exact_map
    def prepare(self) -> System:
        """Return the same system in one matrix product a layer, where phi is a sandwich network."""
        if isinstance(self.phi, SandwichNetwork) and self.phi.layers:
            return fold(self, self.phi)
        return self

    def numpy_step(self) -> tuple[Callable, np.ndarray] | None:
        """Return the step in NumPy, where phi is a sandwich network with a hidden layer."""
        prepared = self.prepare()
        return None if prepared is self else prepared.numpy_step()

    def state_matrix(self) -> Array:
        """Return A."""
        return self.A

    def lft(self) -> LFT:
        """Return the linear part with the network as one block."""
        nv = self.bv.size
        block, assumptions = bounded(self.phi, nv, nv)
        A, B1, B2, C1 = float64(self.A, self.B1, self.B2, self.C1)
        D11, D12, C2, D21, D22 = float64(np.zeros((nv, nv)), self.D12, self.C2, self.D21, self.D22)
        return LFT(A, B1, B2, C1, D11, D12, C2, D21, D22, (block,), assumptions)

    @property
    def claim(self) -> Claim:
        """The rate and the supply rate that it was built for, and its metric."""
        (P,) = float64(self.P)
        return Claim(float(self.rate), P, in_float64(self.supply), (np.ones(1),))


def _sizes(model: "ContractingR2DN") -> dict:
    (ny, nx), (nv, nu) = model.C2.shape, model.D12.shape
    return {"nu": nu, "nx": nx, "nv": nv, "ny": ny, "hidden": ()}


def _core_sizes(model: "LipschitzR2DN | DissipativeR2DN") -> dict:
    core = model.core
    return {"nu": core.nu, "nx": core.bx.size, "nv": core.bv.size, "ny": core.by.size, "hidden": ()}


def _lipschitz_sizes(model: "LipschitzR2DN") -> dict:
    trained = model.log_gamma_ratio is not None
    return _core_sizes(model) | {"gamma": model.gamma_start, "train_gamma": trained}


def _dissipative_sizes(model: "DissipativeR2DN") -> dict:
    return _core_sizes(model) | {"Q": model.Q, "S": model.S, "R": model.R}


@registered(sizes=_sizes)
class ContractingR2DN(Parameterization):
    """R2DN whose trajectories under one input approach each other, whatever the free arrays.

    ::

        V(x1+ - x2+) <= rate^2 V(x1 - x2),   V(d) = d' P d

    Source: [BWM25], Proposition 1; the rate as in [RWM23], eq. (19).

    **Arguments:** `nu nx nv ny`: numbers of inputs, states, network features and outputs; `hidden`: widths
    of phi's hidden layers; `rate` in (0, 1] per sample; `activation`: elementwise, slope in [0, 1]; `phi`:
    a network to use in place of the default `LBDN` (a `Parameterization` is trained along, any other is
    held fixed); `init`: an initializer: `random`, `long_memory`, `resonances`; `dtype`: of the free arrays.

    **Raises:** `ModelError` for a size below 1, a rate outside (0, 1], a slope outside [0, 1] or a phi that
    is not 1-Lipschitz.
    """

    X: Float[Array, "n2 n2"]
    p: Float[Array, ""]
    Y: Float[Array, "nx nx"]
    B1_imp: Float[Array, "nx nv"]
    C1: Float[Array, "nv nx"]
    B2: Float[Array, "nx nu"]
    C2: Float[Array, "ny nx"]
    D12: Float[Array, "nv nu"]
    D21: Float[Array, "ny nv"]
    D22: Float[Array, "ny nu"]
    bx: Float[Array, " nx"]
    bv: Float[Array, " nv"]
    by: Float[Array, " ny"]
    phi: Callable | LBDN
    rate: float = eqx.field(static=True)

    def __init__(
        self,
        *,
        nu: int,
        nx: int,
        nv: int,
        ny: int,
        hidden: Sequence[int] = (32, 32),
        rate: float = 1.0,
        activation: Activation = jax.nn.relu,
        phi: Callable | None = None,
        init: Initializer = random,
        key: PRNGKeyArray,
        dtype=None,
    ):
        check_sizes(nu=nu, nx=nx, nv=nv, ny=ny)
        self.rate = check_rate(rate)
        dtype = default_dtype() if dtype is None else dtype
        core_key, phi_key, port_key = split(key, 3)
        self.phi = _network(phi, nv, hidden, activation, phi_key, dtype)
        self.X, self.Y, self.B1_imp, self.C1 = init(core_key, nx, zeros((nv, nv), dtype), self.rate)
        self.p = norm(self.X)
        ports = ((nx, nu), (ny, nx), (nv, nu), (ny, nv))
        self.B2, self.C2, self.D12, self.D21 = lecun_normals(port_key, ports, dtype)
        self.D22 = zeros((ny, nu), dtype)
        self.bx, self.bv, self.by = (zeros(n, dtype) for n in (nx, nv, ny))

    @exact_map
    def explicit(self) -> ExplicitR2DN:
        """Map to the model; differentiable, one solve with an (nx, nx) matrix."""
        A, B1, P = bounded_real(self.X, self.p, self.Y, self.B1_imp, self.C1, None, self.rate)
        return ExplicitR2DN(
            A=A, B1=B1, B2=self.B2, C1=self.C1, C2=self.C2, D12=self.D12, D21=self.D21, D22=self.D22,
            bx=self.bx, bv=self.bv, by=self.by, phi=_explicit_phi(self.phi), P=P, supply=None, rate=self.rate,
        )  # fmt: skip

    def quiet(self, factor: float = 1e-2) -> "ContractingR2DN":
        """Return the model with its output arrays multiplied by `factor`."""
        return eqx.tree_at(lambda m: (m.C2, m.D21), self, (factor * self.C2, factor * self.D21))


@registered()
class UnitGainR2DN(eqx.Module):
    """Free arrays of an R2DN of gain at most one: what the Lipschitz and the dissipative R2DN share.

    `G12`, `G21` and `G22` are the free arrays of the feedthrough's three contractions.
    """

    X: Float[Array, "n2 n2"]
    p: Float[Array, ""]
    Y: Float[Array, "nx nx"]
    B_imp: Float[Array, "nx ns"]
    C: Float[Array, "nr nx"]
    G12: Float[Array, "_ _"]
    G21: Float[Array, "_ _"]
    G22: Float[Array, "_ _"]
    bx: Float[Array, " nx"]
    bv: Float[Array, " nv"]
    by: Float[Array, " ny"]
    phi: Callable | LBDN
    nu: int = eqx.field(static=True)
    rate: float = eqx.field(static=True)

    def __init__(self, *, nu, nx, nv, ny, hidden, rate, activation, phi, init, key, dtype):
        check_sizes(nu=nu, nx=nx, nv=nv, ny=ny)
        self.rate = check_rate(rate)
        self.nu = nu
        dtype = default_dtype() if dtype is None else dtype
        core_key, phi_key, G_key = split(key, 3)
        self.phi = _network(phi, nv, hidden, activation, phi_key, dtype)
        shapes = tuple((a + b, min(a, b)) for a, b in ((nv, nu), (ny, nv), (ny, nu)))
        # A tenth: small feedthroughs to start with, but not zero, where the factors L and M would not move.
        self.G12, self.G21, self.G22 = lecun_normals(G_key, shapes, dtype, 0.1)
        self.bx, self.bv, self.by = (zeros(n, dtype) for n in (nx, nv, ny))
        D = first_feedthrough(self.G12, self.G21, self.G22, (nu, nv, ny))
        self.X, self.Y, self.B_imp, self.C = init(core_key, nx, D, self.rate)
        self.p = norm(self.X)

    def feedthrough(self) -> Float[Array, "nr ns"]:
        """Return `[[0, D12], [D21, D22]]`, of norm at most `1 - headroom`: the map inverts `I - D'D`."""
        nv, ny = self.bv.size, self.by.size
        D12, D21, D22 = feedthrough(self.G12, self.G21, self.G22, (self.nu, nv, ny))
        D = jnp.block([[jnp.zeros((nv, nv), D12.dtype), D12], [D21, D22]])
        return (1 - headroom(D.dtype)) * D

    def quiet(self, factor: float) -> "UnitGainR2DN":
        """Return the core with its output arrays multiplied by `factor`; in C its rows stand below the network's."""
        nv = self.bv.size
        C = jnp.concatenate([self.C[:nv], factor * self.C[nv:]])
        outputs = (C, factor * self.G21, factor * self.G22)
        return eqx.tree_at(lambda m: (m.C, m.G21, m.G22), self, outputs)

    @exact_map
    def explicit(self, supply: Supply) -> ExplicitR2DN:
        """Map to the model that respects the given supply rate, of a core with `headroom` in its gain."""
        nv = self.bv.size
        D = self.feedthrough()
        A, B, P = bounded_real(self.X, self.p, self.Y, self.B_imp, self.C, D, self.rate)
        B, D = ((1 - headroom(M.dtype)) * M for M in (B, D))
        ports = through_ports(supply, B[:, nv:], self.C[nv:], D[:nv, nv:], D[nv:, :nv], D[nv:, nv:])
        B2, C2, D12, D21, D22 = ports
        return ExplicitR2DN(
            A=A, B1=B[:, :nv], B2=B2, C1=self.C[:nv], C2=C2, D12=D12, D21=D21, D22=D22,
            bx=self.bx, bv=self.bv, by=self.by, phi=_explicit_phi(self.phi), P=P, supply=supply, rate=self.rate,
        )  # fmt: skip


@registered(sizes=_lipschitz_sizes)
class LipschitzR2DN(Parameterization):
    """R2DN whose gain from input to output is at most `gamma`, whatever the free arrays.

    ::

        sum_t |y1 - y2|^2 <= gamma^2 sum_t |u1 - u2|^2      for equal initial states, and
        V(dx+) - rate^2 V(dx) <= gamma |du|^2 - |dy|^2 / gamma

    Source: [BWM25], Proposition 2; free feedthrough and rate are ours.

    **Arguments:** as `ContractingR2DN`, and `gamma` > 0, outputs' unit over inputs' unit; with
    `train_gamma=True` that is its start, and training moves it (give the loss a term in `model.gamma`).

    **Raises:** `ModelError` as `ContractingR2DN`, and for gamma not positive and finite.
    """

    core: UnitGainR2DN
    gamma_start: float = eqx.field(static=True)
    log_gamma_ratio: Float[Array, ""] | None

    def __init__(
        self,
        *,
        nu: int,
        nx: int,
        nv: int,
        ny: int,
        gamma: float,
        train_gamma: bool = False,
        hidden: Sequence[int] = (32, 32),
        rate: float = 1.0,
        activation: Activation = jax.nn.relu,
        phi: Callable | None = None,
        init: Initializer = random,
        key: PRNGKeyArray,
        dtype=None,
    ):
        self.gamma_start = check_gamma(gamma)
        self.core = UnitGainR2DN(
            nu=nu, nx=nx, nv=nv, ny=ny, hidden=hidden, rate=rate, activation=activation, phi=phi, init=init, key=key, dtype=dtype
        )  # fmt: skip
        self.log_gamma_ratio = zeros((), self.core.X.dtype) if train_gamma else None

    @property
    def gamma(self) -> Float[Array, ""]:
        """The gain bound."""
        gamma = jnp.asarray(self.gamma_start, self.core.X.dtype)
        return gamma if self.log_gamma_ratio is None else gamma * jnp.exp(self.log_gamma_ratio)

    def explicit(self) -> ExplicitR2DN:
        """Map to the model; differentiable, one solve with an (nx, nx) matrix."""
        return self.core.explicit(gain_supply(self.gamma, self.core.nu, self.core.by.size))

    def quiet(self, factor: float = 1e-2) -> "LipschitzR2DN":
        """Return the model with its output arrays multiplied by `factor`."""
        return eqx.tree_at(lambda m: m.core, self, self.core.quiet(factor))


@registered(sizes=_dissipative_sizes)
class DissipativeR2DN(Parameterization):
    """R2DN that respects an incremental supply rate, whatever the free arrays.

    ::

        V(dx+) - rate^2 V(dx) <= dy' Q dy + 2 du' S dy + du' R du

    Source: the supply rates of [RWM23], Sec. III; here a change of ports of the unit-gain core, which
    reaches every one with `Q < 0` and `R - S Q^-1 S' > 0`. Passive: see `passive`.

    **Arguments:** as `ContractingR2DN`, and `Q` (ny, ny), `S` (nu, ny), `R` (nu, nu).

    **Raises:** `ModelError` as `ContractingR2DN`, and unless Q < 0 and R - S Q^-1 S' > 0.
    """

    core: UnitGainR2DN
    Q: Rows = eqx.field(static=True)
    S: Rows = eqx.field(static=True)
    R: Rows = eqx.field(static=True)

    def __init__(
        self,
        *,
        nu: int,
        nx: int,
        nv: int,
        ny: int,
        Q,
        S,
        R,
        hidden: Sequence[int] = (32, 32),
        rate: float = 1.0,
        activation: Activation = jax.nn.relu,
        phi: Callable | None = None,
        init: Initializer = random,
        key: PRNGKeyArray,
        dtype=None,
    ):
        self.Q, self.S, self.R = check_supply(Q, S, R, nu, ny)
        self.core = UnitGainR2DN(
            nu=nu, nx=nx, nv=nv, ny=ny, hidden=hidden, rate=rate, activation=activation, phi=phi, init=init, key=key, dtype=dtype
        )  # fmt: skip

    def explicit(self) -> ExplicitR2DN:
        """Map to the model; differentiable, one solve with an (nx, nx) matrix."""
        dtype = self.core.X.dtype
        return self.core.explicit(Supply(*(jnp.asarray(M, dtype) for M in (self.Q, self.S, self.R))))

    def quiet(self, factor: float = 1e-2) -> "DissipativeR2DN":
        """Return the model with its output arrays multiplied by `factor`."""
        return eqx.tree_at(lambda m: m.core, self, self.core.quiet(factor))


def passive(n: int, *, output_excess: float = 1e-3, input_excess: float = 0.0) -> dict[str, np.ndarray]:
    """Return the supply rate of a passive model with `n` inputs and `n` outputs, as `Q`, `S` and `R`.

    ::

        V(dx+) - rate^2 V(dx) <= du' dy - output_excess |dy|^2 - input_excess |du|^2

    Use it as `DissipativeR2DN(..., **passive(n))`. `output_excess` must be positive and, with
    `input_excess`, satisfy `4 output_excess input_excess < 1`; the model checks both.
    """
    eye = np.eye(n)
    return {"Q": -output_excess * eye, "S": eye / 2, "R": -input_excess * eye}


def _network(phi, nv, hidden, activation, key, dtype):
    if phi is None:
        return LBDN(nv, nv, tuple(hidden), activation=activation, key=key, dtype=dtype)
    check_phi(phi, nv, dtype)
    return phi


def _explicit_phi(phi):
    """A parameterized phi is 1-Lipschitz for every value; any other stays one only if training leaves it alone."""
    if isinstance(phi, Parameterization):
        return phi.explicit()
    return jax.tree.map(lambda leaf: lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, phi)

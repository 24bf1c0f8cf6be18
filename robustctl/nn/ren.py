"""The recurrent equilibrium network (REN): a linear system in feedback with one implicit layer.

[RWM23] Revay, Wang, Manchester, "Recurrent equilibrium networks: flexible dynamic models with guaranteed
stability and robustness", IEEE TAC 2023. The classes and their guarantees are those of the R2DN:
`ContractingREN`, `LipschitzREN` and `DissipativeREN`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import Rows, check_gamma, check_rate, check_sizes, check_supply
from ..lft import LFT, Claim, Slopes, float64
from ..linalg import contraction, exact_map, headroom, polar_gram, slack
from ..registry import registered
from ..system import Parameterization, System
from .activations import Activation, check_activation
from .equilibrium import equilibrium_layer
from .initializers import Initializer, default_dtype, lecun_normals, split
from .lipschitz import assumed
from .numpy_maps import from_linear_part, norm, small_feedthrough, zeros
from .ren_map import explicit_matrices, port_factors, port_gram
from .supply import Supply, gain_supply, in_float64, through_ports


class ExplicitREN(System):
    """A REN ready to step.

    ::

        x+ = A x + B1 w + B2 u + bx
        w  = activation(v),   v = C1 x + D11 w + D12 u + bv      (D11 strictly lower triangular)
        y  = C2 x + D21 w + D22 u + by

    with the metric `P` of its storage function `V = dx' P dx`, the diagonal `Lambda` of the multiplier of
    the activation, `2 dw' diag(Lambda) (dv - dw) >= 0`, the contraction `rate` and the supply rate that it
    was built for (None: contraction alone). These last four are what `certify` checks; stepping does not
    use them. Source: the acyclic REN of [RWM23].
    """

    A: Float[Array, "nx nx"]
    B1: Float[Array, "nx nv"]
    B2: Float[Array, "nx nu"]
    C1: Float[Array, "nv nx"]
    C2: Float[Array, "ny nx"]
    D11: Float[Array, "nv nv"]
    D12: Float[Array, "nv nu"]
    D21: Float[Array, "ny nv"]
    D22: Float[Array, "ny nu"]
    bx: Float[Array, " nx"]
    bv: Float[Array, " nv"]
    by: Float[Array, " ny"]
    Lambda: Float[Array, " nv"]
    P: Float[Array, "nx nx"]
    supply: Supply | None
    rate: float = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

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
        w = equilibrium_layer(self.D11, self.C1 @ x + self.D12 @ u + self.bv, self.activation)
        x_next = self.A @ x + self.B1 @ w + self.B2 @ u + self.bx
        y = self.C2 @ x + self.D21 @ w + self.D22 @ u + self.by
        return x_next, y

    def lft(self) -> LFT:
        """Return the linear part with its neurons as one block."""
        A, B1, B2, C1 = float64(self.A, self.B1, self.B2, self.C1)
        D11, D12, C2, D21, D22 = float64(self.D11, self.D12, self.C2, self.D21, self.D22)
        neurons = Slopes(np.zeros(self.bv.size), np.ones(self.bv.size))
        # Entries on and above the diagonal are not read by the layer: see `equilibrium_layer`.
        D11 = np.tril(D11, -1)
        return LFT(A, B1, B2, C1, D11, D12, C2, D21, D22, (neurons,), assumed(self.activation))

    @property
    def claim(self) -> Claim:
        """The rate and the supply rate that it was built for, its metric and its multipliers."""
        P, Lambda = float64(self.P, self.Lambda)
        return Claim(float(self.rate), P, in_float64(self.supply), (Lambda,))


def _sizes(model: "ContractingREN") -> dict:
    (ny, nx), (nv, nu) = model.C2.shape, model.D12_imp.shape
    return {"nu": nu, "nx": nx, "nv": nv, "ny": ny}


def _core_sizes(model: "LipschitzREN | DissipativeREN") -> dict:
    core = model.core
    (nx, nu), nv = core.B2_free.shape, core.bv.size
    return {"nu": nu, "nx": nx, "nv": nv, "ny": core.by.size}


def _lipschitz_sizes(model: "LipschitzREN") -> dict:
    trained = model.log_gamma_ratio is not None
    return _core_sizes(model) | {"gamma": model.gamma_start, "train_gamma": trained}


def _dissipative_sizes(model: "DissipativeREN") -> dict:
    return _core_sizes(model) | {"Q": model.Q, "S": model.S, "R": model.R}


@registered(sizes=_sizes)
class ContractingREN(Parameterization):
    """REN whose trajectories under one input approach each other, whatever the free arrays.

    ::

        V(x1+ - x2+) <= rate^2 V(x1 - x2),   V(d) = d' P d

        H = p^2 X'X / |X|_F^2 + eps I,   and from its blocks the model: see `explicit_matrices`

    Source: [RWM23], eq. (19).

    **Arguments:** `nu nx nv ny`: numbers of inputs, states, neurons and outputs; `rate` in (0, 1] per
    sample; `activation`: elementwise, slope in [0, 1]; `init`: None draws `X` itself, as published, and an
    initializer (`long_memory`, `random`, `resonances`) starts from the linear part that it draws, with D11 = 0; `dtype`:
    of the free arrays.

    **Raises:** `ModelError` for a size below 1, a rate outside (0, 1] or a slope outside [0, 1].
    """

    X: Float[Array, "nh nh"]
    p: Float[Array, ""]
    Y: Float[Array, "nx nx"]
    B2_imp: Float[Array, "nx nu"]
    C2: Float[Array, "ny nx"]
    D12_imp: Float[Array, "nv nu"]
    D21: Float[Array, "ny nv"]
    D22: Float[Array, "ny nu"]
    bx: Float[Array, " nx"]
    bv: Float[Array, " nv"]
    by: Float[Array, " ny"]
    rate: float = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        *,
        nu: int,
        nx: int,
        nv: int,
        ny: int,
        rate: float = 1.0,
        activation: Activation = jax.nn.relu,
        init: Initializer | None = None,
        key: PRNGKeyArray,
        dtype=None,
    ):
        check_sizes(nu=nu, nx=nx, nv=nv, ny=ny)
        check_activation(activation)
        self.rate, self.activation = check_rate(rate), activation
        dtype = default_dtype() if dtype is None else dtype
        core_key, port_key = split(key, 2)
        if init is None:
            self.X, self.Y = lecun_normals(core_key, ((2 * nx + nv, 2 * nx + nv), (nx, nx)), dtype)
        else:
            D = zeros((nv, nv), dtype)
            part = init(core_key, nx, D, self.rate)
            self.X, self.Y = from_linear_part(part, D, self.rate, nv)[0], part.Y
        self.p = norm(self.X)
        ports = ((nx, nu), (ny, nx), (nv, nu), (ny, nv))
        self.B2_imp, self.C2, self.D12_imp, self.D21 = lecun_normals(port_key, ports, dtype)
        self.D22 = zeros((ny, nu), dtype)
        self.bx, self.bv, self.by = (zeros(n, dtype) for n in (nx, nv, ny))

    @exact_map
    def explicit(self) -> ExplicitREN:
        """Map to the model; differentiable, one solve with an (nx, nx) matrix."""
        H = polar_gram(self.X, self.p)
        return ExplicitREN(
            **explicit_matrices(H, self.Y, self.B2_imp, self.D12_imp, self.rate),
            C2=self.C2, D21=self.D21, D22=self.D22, bx=self.bx, bv=self.bv, by=self.by,
            supply=None, rate=self.rate, activation=self.activation,
        )  # fmt: skip

    def quiet(self, factor: float = 1e-2) -> "ContractingREN":
        """Return the model with its output arrays multiplied by `factor`."""
        return eqx.tree_at(lambda m: (m.C2, m.D21), self, (factor * self.C2, factor * self.D21))


@registered()
class UnitGainREN(eqx.Module):
    """Free arrays of a REN of gain at most one: what the Lipschitz and the dissipative REN share.

    ::

        D22 = contraction(G22),   L L' = I - D22 D22',   M M' = I - D22' D22,   W = L' D22 M'^-1
        C2  = L C2_free,  D21 = L D21_free,  B2_imp = B2_free M',  D12_imp = D12_free M'
        o   = [C2_free D21_free 0],   k = [0; -D12_free; B2_free]             (blocks for x, w, x+)
        H   = p^2 X'X / |X|_F^2 + [o' k] [I -W; -W' I] [o; k'] + eps I

    Source: [RWM23], eq. (29), for the supply rate `|du|^2 - |dy|^2`. There the last term reads
    `[C2 D21 0]' [C2 D21 0] + g (I - D22' D22)^-1 g'`; it is the same one, but here nothing grows without
    bound as D22 nears the unit sphere, where the published form loses the guarantee to rounding.
    """

    X: Float[Array, "nh nh"]
    p: Float[Array, ""]
    Y: Float[Array, "nx nx"]
    B2_free: Float[Array, "nx nu"]
    C2_free: Float[Array, "ny nx"]
    D12_free: Float[Array, "nv nu"]
    D21_free: Float[Array, "ny nv"]
    G22: Float[Array, "_ _"]
    bx: Float[Array, " nx"]
    bv: Float[Array, " nv"]
    by: Float[Array, " ny"]
    rate: float = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(self, *, nu, nx, nv, ny, rate, activation, init, key, dtype):
        check_sizes(nu=nu, nx=nx, nv=nv, ny=ny)
        check_activation(activation)
        self.rate, self.activation = check_rate(rate), activation
        dtype = default_dtype() if dtype is None else dtype
        core_key, port_key, G_key = split(key, 3)
        ports = lecun_normals(port_key, ((nx, nu), (ny, nx), (nv, nu), (ny, nv)), dtype)
        (self.G22,) = lecun_normals(G_key, ((ny + nu, min(ny, nu)),), dtype, 0.1)
        if init is None:
            self.X, self.Y = lecun_normals(core_key, ((2 * nx + nv, 2 * nx + nv), (nx, nx)), dtype)
        else:
            D = small_feedthrough(ports[2], ports[3], self.G22)
            part = init(core_key, nx, D, self.rate)
            self.Y = part.Y
            self.X, *ports = from_linear_part(part, D, self.rate, nv)
        self.B2_free, self.C2_free, self.D12_free, self.D21_free = ports
        self.bx, self.bv, self.by = (zeros(n, dtype) for n in (nx, nv, ny))
        self.p = norm(self.X)

    def quiet(self, factor: float) -> "UnitGainREN":
        """Return the core with its output arrays multiplied by `factor`."""
        outputs = (factor * self.C2_free, factor * self.D21_free, factor * self.G22)
        return eqx.tree_at(lambda m: (m.C2_free, m.D21_free, m.G22), self, outputs)

    @exact_map
    def explicit(self, supply: Supply) -> ExplicitREN:
        """Map to the model that respects the given supply rate, of a core with `headroom` in its gain."""
        D22 = contraction(self.G22, (self.by.size, self.B2_free.shape[1]))
        L, M, W = port_factors(D22)
        added = port_gram(self.B2_free, self.C2_free, self.D12_free, self.D21_free, W)
        H = polar_gram(self.X, self.p) + added
        H = H + slack(H.dtype) / H.shape[0] * jnp.trace(H) * jnp.eye(H.shape[0], dtype=H.dtype)
        M, D22 = ((1 - headroom(N.dtype)) * N for N in (M, D22))
        core = explicit_matrices(H, self.Y, self.B2_free @ M.T, self.D12_free @ M.T, self.rate)
        C2, D21 = L @ self.C2_free, L @ self.D21_free
        B2, C2, D12, D21, D22 = through_ports(supply, core.pop("B2"), C2, core.pop("D12"), D21, D22)
        return ExplicitREN(
            **core, B2=B2, C2=C2, D12=D12, D21=D21, D22=D22, bx=self.bx, bv=self.bv, by=self.by,
            supply=supply, rate=self.rate, activation=self.activation,
        )  # fmt: skip


@registered(sizes=_lipschitz_sizes)
class LipschitzREN(Parameterization):
    """REN whose gain from input to output is at most `gamma`, whatever the free arrays.

    ::

        sum_t |y1 - y2|^2 <= gamma^2 sum_t |u1 - u2|^2      for equal initial states, and
        V(dx+) - rate^2 V(dx) <= gamma |du|^2 - |dy|^2 / gamma

    Source: [RWM23], eq. (29).

    **Arguments:** as `ContractingREN`, and `gamma` > 0, outputs' unit over inputs' unit; with
    `train_gamma=True` that is its start, and training moves it (give the loss a term in `model.gamma`).

    **Raises:** `ModelError` as `ContractingREN`, and for gamma not positive and finite.
    """

    core: UnitGainREN
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
        rate: float = 1.0,
        activation: Activation = jax.nn.relu,
        init: Initializer | None = None,
        key: PRNGKeyArray,
        dtype=None,
    ):
        self.gamma_start = check_gamma(gamma)
        self.core = UnitGainREN(
            nu=nu, nx=nx, nv=nv, ny=ny, rate=rate, activation=activation, init=init, key=key, dtype=dtype
        )
        self.log_gamma_ratio = zeros((), self.core.X.dtype) if train_gamma else None

    @property
    def gamma(self) -> Float[Array, ""]:
        """The gain bound."""
        gamma = jnp.asarray(self.gamma_start, self.core.X.dtype)
        return gamma if self.log_gamma_ratio is None else gamma * jnp.exp(self.log_gamma_ratio)

    def explicit(self) -> ExplicitREN:
        """Map to the model; differentiable, one solve with an (nx, nx) matrix."""
        return self.core.explicit(gain_supply(self.gamma, self.core.B2_free.shape[1], self.core.by.size))

    def quiet(self, factor: float = 1e-2) -> "LipschitzREN":
        """Return the model with its output arrays multiplied by `factor`."""
        return eqx.tree_at(lambda m: m.core, self, self.core.quiet(factor))


@registered(sizes=_dissipative_sizes)
class DissipativeREN(Parameterization):
    """REN that respects an incremental supply rate, whatever the free arrays.

    ::

        V(dx+) - rate^2 V(dx) <= dy' Q dy + 2 du' S dy + du' R du

    Source: the supply rates of [RWM23]; here a change of ports of the unit-gain core, which reaches every
    one with `Q < 0` and `R - S Q^-1 S' > 0`. Passive: see `passive`.

    **Arguments:** as `ContractingREN`, and `Q` (ny, ny), `S` (nu, ny), `R` (nu, nu).

    **Raises:** `ModelError` as `ContractingREN`, and unless Q < 0 and R - S Q^-1 S' > 0.
    """

    core: UnitGainREN
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
        rate: float = 1.0,
        activation: Activation = jax.nn.relu,
        init: Initializer | None = None,
        key: PRNGKeyArray,
        dtype=None,
    ):
        self.Q, self.S, self.R = check_supply(Q, S, R, nu, ny)
        self.core = UnitGainREN(
            nu=nu, nx=nx, nv=nv, ny=ny, rate=rate, activation=activation, init=init, key=key, dtype=dtype
        )

    def explicit(self) -> ExplicitREN:
        """Map to the model; differentiable, one solve with an (nx, nx) matrix."""
        dtype = self.core.X.dtype
        return self.core.explicit(Supply(*(jnp.asarray(M, dtype) for M in (self.Q, self.S, self.R))))

    def quiet(self, factor: float = 1e-2) -> "DissipativeREN":
        """Return the model with its output arrays multiplied by `factor`."""
        return eqx.tree_at(lambda m: m.core, self, self.core.quiet(factor))

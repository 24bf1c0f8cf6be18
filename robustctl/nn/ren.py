"""The recurrent equilibrium network (REN): a linear system in feedback with one implicit layer.

[RWM23] Revay, Wang, Manchester, "Recurrent equilibrium networks: flexible dynamic models with guaranteed
stability and robustness", IEEE TAC 2023. The guarantees are those of the R2DN, and so are the three short functions:
`ContractingREN`, `LipschitzREN` and `DissipativeREN`.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import check_sizes
from ..lft import LFT, Claim, float64
from ..linalg import contraction, headroom, polar_gram, slack
from ..registry import registered
from .activations import Activation, check_activation, dtypes_of, fault, neurons
from .arrays import check_one, check_shapes, free_dtype
from .at_linear import AtLinear, started
from .equilibrium import equilibrium_layer
from .guarantee import Contracting, Dissipative, Guarantee, Lipschitz, Recurrent
from .initializers import Initializer, lecun_normals, split
from .inverse import contracting_ren, unit_gain_ren
from .lure import Core, LureSystem, port_shapes, scaled_rows
from .numpy_maps import from_linear_part, small_feedthrough, zeros
from .ren_map import explicit_matrices, port_factors, port_gram
from .supply import Supply, through_ports


@registered()
class ExplicitREN(LureSystem):
    """A REN ready to step: a `LureSystem` whose nonlinearity is an implicit layer.

    ::

        w = activation(v),   v = C1 x + D11 w + D12 u + bv      (D11 strictly lower triangular)

    with the diagonal `Lambda` of the multiplier of the activation, `2 dw' diag(Lambda) (dv - dw) >= 0`, which `certify`
    checks and stepping does not use. Source: the acyclic REN of [RWM23].

    **Arguments:** those of `LureSystem`, and

    - `D11`: of the implicit layer, (nv, nv).
    - `Lambda`: diagonal of the multiplier, (nv,).
    - `activation`: elementwise, slope in [0, 1].
    """

    D11: Float[Array, "nv nv"]
    Lambda: Float[Array, " nv"]
    activation: Activation = eqx.field(static=True)

    def response(self, b: Float[Array, " nv"]) -> Float[Array, " nv"]:
        """Return the solution of the implicit layer."""
        return equilibrium_layer(self.D11, b, self.activation)

    def response_gain(self) -> float:
        """Return the bound of the implicit layer.

        ::

            w = sigma(D11 w + v):    dw' (2 L - L D11 - D11' L) dw <= 2 dw' L dv,     |dw| <= 2 |L| |dv| / (least eigenvalue)

        for slopes in [0, 1] and `2 L - L D11 - D11' L > 0`, with L = Lambda: each neuron has dw (dv + D11 dw - dw) >= 0.
        """
        if fault(self.activation, *dtypes_of(self)):
            return float("inf")
        L, D11 = np.diag(np.asarray(self.Lambda, float)), np.tril(np.asarray(self.D11, float), -1)
        least = float(np.linalg.eigvalsh(2 * L - L @ D11 - D11.T @ L)[0])
        return float(2 * np.abs(L).max() / least) if least > 0 else float("inf")

    def lft(self) -> LFT:
        """Return the linear part with its neurons as one block."""
        check_one(self, self.bx)
        nv = self.bv.size
        check_shapes(self, D11=(nv, nv), Lambda=(nv,))
        # Entries on and above the diagonal are not read by the layer: see `equilibrium_layer`.
        return self.form(np.tril(self.D11, -1), *neurons(nv, self.activation, dtypes_of(self)))

    @property
    def claim(self) -> Claim:
        """The rate and the supply rate that it was built for, its metric and its multipliers."""
        (Lambda,) = float64(self.Lambda)
        # A block without a bound has one multiplier, which proves nothing.
        return self.claimed(np.ones(1) if fault(self.activation, *dtypes_of(self)) else Lambda)


class RENCore(Core):
    """Free arrays of a REN."""

    activation: Activation = eqx.field(static=True)

    def __init__(self, X, Y, nv: int, ny: int, activation: Activation):
        super().__init__(X, Y, nv, ny)
        self.activation = activation

    def _explicit(self, **matrices: Any) -> ExplicitREN:
        """Return the model of these matrices."""
        return ExplicitREN(**matrices, bx=self.bx, bv=self.bv, by=self.by, activation=self.activation)


@registered()
class ContractingRENCore(RENCore):
    """Free arrays of a REN that contracts, with any gain.

    ::

        H = p^2 X'X / |X|_F^2 + eps I,   and from its blocks the model: see `explicit_matrices`

    Source: [RWM23], eq. (19).
    """

    B2_imp: Float[Array, "nx nu"]
    C2: Float[Array, "ny nx"]
    D12_imp: Float[Array, "nv nu"]
    D21: Float[Array, "ny nv"]
    D22: Float[Array, "ny nu"]

    inverse: ClassVar = staticmethod(contracting_ren)

    def __init__(self, sizes, activation, init, rate, key, dtype):
        nu, nx, nv, ny = sizes
        core_key, port_key = split(key, 2)
        if init is None:
            X, Y = _published(core_key, nx, nv, dtype)
        else:
            D = zeros((nv, nv), dtype)
            part = init(core_key, nx, D, rate)
            X, Y = from_linear_part(part, D, rate, nv)[0], part.Y
        super().__init__(X, Y, nv, ny, activation)
        self.B2_imp, self.C2, self.D12_imp, self.D21 = lecun_normals(port_key, port_shapes(*sizes), dtype)
        self.D22 = zeros((ny, nu), dtype)

    @property
    def nu(self) -> int:
        """Number of inputs."""
        return self.B2_imp.shape[1]

    def explicit(self, rate: Float[Array, ""], supply: None) -> ExplicitREN:
        """Map to the model of this rate."""
        H = polar_gram(self.X, self.p)
        matrices = explicit_matrices(H, self.Y, self.B2_imp, self.D12_imp, rate)
        return self._explicit(**matrices, C2=self.C2, D21=self.D21, D22=self.D22, supply=None, rate=rate)

    def quiet(self, factor: float) -> "ContractingRENCore":
        """Return the core with its output arrays multiplied by `factor`."""
        return scaled_rows(self, factor, "C2", "D21")


@registered()
class UnitGainRENCore(RENCore):
    """Free arrays of a REN of gain at most one: for every guarantee with a supply rate.

    ::

        D22 = contraction(G22),   L L' = I - D22 D22',   M M' = I - D22' D22,   W = L' D22 M'^-1
        C2  = L C2_free,  D21 = L D21_free,  B2_imp = B2_free M',  D12_imp = D12_free M'
        o   = [C2_free D21_free 0],   k = [0; -D12_free; B2_free]             (blocks for x, w, x+)
        H   = p^2 X'X / |X|_F^2 + [o' k] [I -W; -W' I] [o; k'] + eps I

    Source: [RWM23], eq. (29), for the supply rate `|du|^2 - |dy|^2`. There the last term reads
    `[C2 D21 0]' [C2 D21 0] + g (I - D22' D22)^-1 g'`; it is the same one, but here nothing grows without
    bound as D22 nears the unit sphere, where the published form loses the guarantee to rounding.
    """

    B2_free: Float[Array, "nx nu"]
    C2_free: Float[Array, "ny nx"]
    D12_free: Float[Array, "nv nu"]
    D21_free: Float[Array, "ny nv"]
    G22: Float[Array, "_ _"]

    inverse: ClassVar = staticmethod(unit_gain_ren)

    def __init__(self, sizes, activation, init, rate, key, dtype):
        nu, nx, nv, ny = sizes
        core_key, port_key, G_key = split(key, 3)
        ports = lecun_normals(port_key, port_shapes(*sizes), dtype)
        (self.G22,) = lecun_normals(G_key, ((ny + nu, min(ny, nu)),), dtype, 0.1)
        if init is None:
            X, Y = _published(core_key, nx, nv, dtype)
        else:
            D = small_feedthrough(ports[2], ports[3], self.G22)
            part = init(core_key, nx, D, rate)
            Y = part.Y
            X, *ports = from_linear_part(part, D, rate, nv)
        super().__init__(X, Y, nv, ny, activation)
        self.B2_free, self.C2_free, self.D12_free, self.D21_free = ports

    @property
    def nu(self) -> int:
        """Number of inputs."""
        return self.B2_free.shape[1]

    def explicit(self, rate: Float[Array, ""], supply: Supply) -> ExplicitREN:
        """Map to the model that respects the given supply rate, of a core with `headroom` in its gain."""
        D22 = contraction(self.G22, (self.by.size, self.nu))
        L, M, W = port_factors(D22)
        added = port_gram(self.B2_free, self.C2_free, self.D12_free, self.D21_free, W)
        H = polar_gram(self.X, self.p) + added
        # `polar_gram` adds its part relative to X alone; the ports may be larger.
        H = H + slack(H.dtype) / H.shape[0] * jnp.trace(H) * jnp.eye(H.shape[0], dtype=H.dtype)
        # Inputs smaller by the headroom make the gain smaller by it, which leaves room for rounding of the ports.
        M, D22 = ((1 - headroom(N.dtype)) * N for N in (M, D22))
        core = explicit_matrices(H, self.Y, self.B2_free @ M.T, self.D12_free @ M.T, rate)
        C2, D21 = L @ self.C2_free, L @ self.D21_free
        B2, C2, D12, D21, D22 = through_ports(supply, core.pop("B2"), C2, core.pop("D12"), D21, D22)
        return self._explicit(**core, B2=B2, C2=C2, D12=D12, D21=D21, D22=D22, supply=supply, rate=rate)

    def quiet(self, factor: float) -> "UnitGainRENCore":
        """Return the core with its output arrays multiplied by `factor`."""
        return scaled_rows(self, factor, "C2_free", "D21_free", "G22")


def _published(key, nx: int, nv: int, dtype):
    """Draw `X` and `Y` themselves, as published."""
    return lecun_normals(key, ((2 * nx + nv, 2 * nx + nv), (nx, nx)), dtype)


@registered(sizes=lambda model: model.sizes())
class REN(Recurrent):
    """Recurrent equilibrium network that keeps its guarantee whatever its free arrays.

    ::

        x+ = A x + B1 w + B2 u + bx
        v  = C1 x + D11 w + D12 u + bv,      w = activation(v)      (D11 strictly lower triangular)
        y  = C2 x + D21 w + D22 u + by

    Source: [RWM23], eqs. (19) and (29), and its supply rates, here a change of ports of a core of unit gain.

    **Arguments:**

    - `guarantee`: `Contracting(rate)`, `Lipschitz(gamma, rate)` or `Dissipative(Q, S, R, rate)`.
    - `nu`: number of inputs.
    - `nx`: number of states.
    - `nv`: number of neurons.
    - `ny`: number of outputs.
    - `activation`: elementwise, slope in [0, 1].
    - `init`: None draws `X` itself, as published, and an initializer (`long_memory`, `random`, `resonances`,
      `at_linear`) starts from the linear part that it draws or is given, with D11 = 0.
    - `key`: seeds the initial values, one PRNG key.
    - `dtype`: of the free arrays, float32 or float64; default that of JAX.

    **Raises:** `InvalidModelError` for a size below 1, another dtype, a slope outside [0, 1], or a supply rate for other numbers of inputs
    and outputs.
    """

    core: RENCore
    guarantee: Guarantee

    def __init__(
        self, guarantee: Guarantee, *, nu: int, nx: int, nv: int, ny: int, activation: Activation = jax.nn.relu,
        init: Initializer | AtLinear | None = None, key: PRNGKeyArray, dtype=None,
    ):  # fmt: skip
        check_sizes(nu=nu, nx=nx, nv=nv, ny=ny)
        dtype = free_dtype(dtype)
        check_activation(activation, dtype)
        self.guarantee = guarantee.for_ports(nu, ny, dtype)
        core = UnitGainRENCore if guarantee.bounds_output else ContractingRENCore

        def build(init):
            return core((nu, nx, nv, ny), activation, init, float(guarantee.rate), key, dtype)

        self.core = started(init, build, None, self.guarantee, key)


def ContractingREN(*, rate: float = 1.0, **settings: Any) -> REN:
    """Return `REN(Contracting(rate), **settings)`: two trajectories under one input approach each other."""
    return REN(Contracting(rate), **settings)


def LipschitzREN(*, gamma: float, rate: float = 1.0, train_gamma: bool = False, **settings: Any) -> REN:
    """Return `REN(Lipschitz(gamma, rate, trainable=train_gamma), **settings)`: the gain is at most `gamma`.

    **Arguments:**

    - `gamma`: gain bound, positive, outputs' unit over inputs' unit.
    - `rate`: in (0, 1], per sample.
    - `train_gamma`: whether training may move `gamma`.
    - `settings`: the other arguments of `REN`.
    """
    return REN(Lipschitz(gamma, rate, trainable=train_gamma), **settings)


def DissipativeREN(*, Q: Any, S: Any, R: Any, rate: float = 1.0, **settings: Any) -> REN:
    """Return `REN(Dissipative(Q, S, R, rate), **settings)`: an incremental supply rate is respected.

    **Arguments:**

    - `Q`: (ny, ny), symmetric, negative definite.
    - `S`: (nu, ny).
    - `R`: (nu, nu), symmetric.
    - `rate`: in (0, 1], per sample.
    - `settings`: the other arguments of `REN`.
    """
    return REN(Dissipative(Q, S, R, rate), **settings)

"""The robust recurrent deep network (R2DN): a linear system in feedback with a 1-Lipschitz network.

[BWM25] Barbara, Wang, Manchester, "R2DN: Scalable parameterization of contracting and Lipschitz recurrent
deep networks", arXiv 2504.01250. [RWM23] Revay, Wang, Manchester, "Recurrent equilibrium networks",
IEEE TAC 2023.

`R2DN` is given its guarantee as a value; three short functions are named after them:

=====================  ==========================================  =================================
function               guarantee for every set of free arrays      what it is given
=====================  ==========================================  =================================
`ContractingR2DN`      two trajectories approach each other        `rate`
`LipschitzR2DN`        and the gain is at most gamma               `rate`, `gamma`
`DissipativeR2DN`      and the supply rate (Q, S, R) is respected  `rate`, `Q`, `S`, `R`
=====================  ==========================================  =================================
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import check_sizes
from ..lft import LFT, Claim
from ..linalg import exact_map, headroom
from ..registry import registered
from ..system import Parameterization, System, explicit_of
from .activations import Activation
from .arrays import check_one, free_dtype
from .at_linear import AtLinear, started
from .bounded_real import bounded_real, feedthrough
from .folded import fold
from .guarantee import Contracting, Dissipative, Guarantee, Lipschitz, Recurrent
from .initializers import Initializer, lecun_normals, random, split
from .inverse import contracting_r2dn, unit_gain_r2dn
from .lipschitz import bounded, check_phi, lipschitz_bound
from .lure import Core, LureSystem, port_shapes, scaled_rows
from .numpy_maps import first_feedthrough, zeros
from .sandwich import LBDN, SandwichNetwork
from .supply import Supply, through_ports


@registered()
class ExplicitR2DN(LureSystem):
    """An R2DN ready to step: a `LureSystem` whose nonlinearity is the network, `w = phi(v)`.

    Source: [BWM25], eqs. (2)-(4).

    **Arguments:** those of `LureSystem`, and

    - `phi`: the network, from nv features to nv.
    """

    phi: Callable

    def response(self, b: Float[Array, " nv"]) -> Float[Array, " nv"]:
        """Return `phi(b)`."""
        return self.phi(b)

    def response_gain(self) -> float:
        """Return the network's Lipschitz bound."""
        return float(lipschitz_bound(self.phi) or np.inf)

    @exact_map
    def prepare(self) -> System:
        """Return the same system in one matrix product a layer, where phi is a sandwich network."""
        check_one(self, self.bx)
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
        return self.form(np.zeros((nv, nv)), *bounded(self.phi, nv, nv))

    @property
    def claim(self) -> Claim:
        """The rate and the supply rate that it was built for, and its metric."""
        return self.claimed(np.ones(1))


class R2DNCore(Core):
    """Free arrays of an R2DN: those of `bounded_real`, and of the network."""

    phi: Callable | Parameterization

    def __init__(self, X, Y, nv: int, ny: int, phi: Callable | Parameterization):
        super().__init__(X, Y, nv, ny)
        self.phi = phi

    def _explicit(self, **matrices: Any) -> ExplicitR2DN:
        """Return the model of these matrices."""
        phi = _explicit_phi(self.phi)
        return ExplicitR2DN(**matrices, bx=self.bx, bv=self.bv, by=self.by, phi=phi)


@registered()
class ContractingR2DNCore(R2DNCore):
    """Free arrays of an R2DN that contracts, with any gain: see `bounded_real`."""

    B1_imp: Float[Array, "nx nv"]
    C1: Float[Array, "nv nx"]
    B2: Float[Array, "nx nu"]
    C2: Float[Array, "ny nx"]
    D12: Float[Array, "nv nu"]
    D21: Float[Array, "ny nv"]
    D22: Float[Array, "ny nu"]

    inverse: ClassVar = staticmethod(contracting_r2dn)

    def __init__(self, sizes, phi, init, rate, key, dtype):
        nu, nx, nv, ny = sizes
        core_key, port_key = split(key, 2)
        X, Y, self.B1_imp, self.C1 = init(core_key, nx, zeros((nv, nv), dtype), rate)
        super().__init__(X, Y, nv, ny, phi)
        self.B2, self.C2, self.D12, self.D21 = lecun_normals(port_key, port_shapes(*sizes), dtype)
        self.D22 = zeros((ny, nu), dtype)

    @property
    def nu(self) -> int:
        """Number of inputs."""
        return self.B2.shape[1]

    def explicit(self, rate: Float[Array, ""], supply: None) -> ExplicitR2DN:
        """Map to the model of this rate."""
        A, B1, P = bounded_real(self.X, self.p, self.Y, self.B1_imp, self.C1, None, rate)
        return self._explicit(
            A=A, B1=B1, B2=self.B2, C1=self.C1, C2=self.C2, D12=self.D12, D21=self.D21, D22=self.D22,
            P=P, supply=None, rate=rate,
        )  # fmt: skip

    def quiet(self, factor: float) -> "ContractingR2DNCore":
        """Return the core with its output arrays multiplied by `factor`."""
        return scaled_rows(self, factor, "C2", "D21")


@registered()
class UnitGainR2DNCore(R2DNCore):
    """Free arrays of an R2DN of gain at most one, for every guarantee with a supply rate.

    `G12`, `G21` and `G22` are the free arrays of the feedthrough's three contractions.
    """

    B_imp: Float[Array, "nx ns"]
    C: Float[Array, "nr nx"]
    G12: Float[Array, "_ _"]
    G21: Float[Array, "_ _"]
    G22: Float[Array, "_ _"]

    inverse: ClassVar = staticmethod(unit_gain_r2dn)

    def __init__(self, sizes, phi, init, rate, key, dtype):
        nu, nx, nv, ny = sizes
        core_key, G_key = split(key, 2)
        shapes = tuple((a + b, min(a, b)) for a, b in ((nv, nu), (ny, nv), (ny, nu)))
        # A tenth: small feedthroughs to start with, but not zero, where the factors L and M would not move.
        self.G12, self.G21, self.G22 = lecun_normals(G_key, shapes, dtype, 0.1)
        D = first_feedthrough(self.G12, self.G21, self.G22, (nu, nv, ny))
        X, Y, self.B_imp, self.C = init(core_key, nx, D, rate)
        super().__init__(X, Y, nv, ny, phi)

    @property
    def nu(self) -> int:
        """Number of inputs."""
        return self.B_imp.shape[1] - self.bv.size

    def feedthrough(self) -> Float[Array, "nr ns"]:
        """Return `[[0, D12], [D21, D22]]`, of norm at most `1 - headroom`: the map inverts `I - D'D`."""
        nv, ny = self.bv.size, self.by.size
        D12, D21, D22 = feedthrough(self.G12, self.G21, self.G22, (self.nu, nv, ny))
        D = jnp.block([[jnp.zeros((nv, nv), D12.dtype), D12], [D21, D22]])
        return (1 - headroom(D.dtype)) * D

    def explicit(self, rate: Float[Array, ""], supply: Supply) -> ExplicitR2DN:
        """Map to the model that respects the given supply rate, of a core with `headroom` in its gain."""
        nv = self.bv.size
        D = self.feedthrough()
        A, B, P = bounded_real(self.X, self.p, self.Y, self.B_imp, self.C, D, rate)
        # Inputs smaller by the headroom make the gain smaller by it, which leaves room for rounding of the ports.
        B, D = ((1 - headroom(M.dtype)) * M for M in (B, D))
        ports = through_ports(supply, B[:, nv:], self.C[nv:], D[:nv, nv:], D[nv:, :nv], D[nv:, nv:])
        B2, C2, D12, D21, D22 = ports
        return self._explicit(
            A=A, B1=B[:, :nv], B2=B2, C1=self.C[:nv], C2=C2, D12=D12, D21=D21, D22=D22,
            P=P, supply=supply, rate=rate,
        )  # fmt: skip

    def quiet(self, factor: float) -> "UnitGainR2DNCore":
        """Return the core with its output arrays multiplied by `factor`; in C its rows stand below the network's."""
        nv = self.bv.size
        C = jnp.concatenate([self.C[:nv], factor * self.C[nv:]])
        return eqx.tree_at(lambda m: m.C, scaled_rows(self, factor, "G21", "G22"), C)


@registered(sizes=lambda model: model.sizes() | {"hidden": ()})
class R2DN(Recurrent):
    """Robust recurrent deep network that keeps its guarantee whatever its free arrays.

    ::

        x+ = A x + B1 w + B2 u + bx
        v  = C1 x + D12 u + bv,      w = phi(v)
        y  = C2 x + D21 w + D22 u + by

    Source: [BWM25], Propositions 1 and 2; the rate as in [RWM23], eq. (19); the supply rates of [RWM23], Sec. III, here
    a change of ports of a core of unit gain. Free feedthrough and rate with a gain bound are ours.

    **Arguments:**

    - `guarantee`: `Contracting(rate)`, `Lipschitz(gamma, rate)` or `Dissipative(Q, S, R, rate)`.
    - `nu`: number of inputs.
    - `nx`: number of states.
    - `nv`: number of network features.
    - `ny`: number of outputs.
    - `hidden`: widths of phi's hidden layers.
    - `activation`: elementwise, slope in [0, 1].
    - `phi`: a network to use in place of the default `LBDN`; a `Parameterization`, as `BypassLBDN(nv, nv, ...)` or
      `Orthogonal(nv, nv, ...)`, is trained along, any other is held fixed.
    - `init`: an initializer: `random`, `long_memory`, `resonances`, `at_linear`.
    - `key`: seeds the initial values, one PRNG key.
    - `dtype`: of the free arrays, float32 or float64; default that of JAX.

    **Raises:** `InvalidModelError` for a size below 1, another dtype, a slope outside [0, 1], a phi that is not 1-Lipschitz, or a supply
    rate for other numbers of inputs and outputs.
    """

    core: R2DNCore
    guarantee: Guarantee

    def __init__(
        self, guarantee: Guarantee, *, nu: int, nx: int, nv: int, ny: int, hidden: Sequence[int] = (32, 32),
        activation: Activation = jax.nn.relu, phi: Callable | Parameterization | None = None, init: Initializer | AtLinear = random,
        key: PRNGKeyArray, dtype=None,
    ):  # fmt: skip
        check_sizes(nu=nu, nx=nx, nv=nv, ny=ny)
        dtype = free_dtype(dtype)
        core_key, phi_key = split(key, 2)
        network: Callable | Parameterization
        if phi is None:
            network = LBDN(nv, nv, tuple(hidden), activation=activation, key=phi_key, dtype=dtype)
        else:
            check_phi(phi, nv, dtype)
            network = phi
        self.guarantee = guarantee.for_ports(nu, ny, dtype)
        core = UnitGainR2DNCore if guarantee.bounds_output else ContractingR2DNCore

        def build(init):
            return core((nu, nx, nv, ny), network, init, float(guarantee.rate), core_key, dtype)

        self.core = started(init, build, random, self.guarantee, core_key)


def ContractingR2DN(*, rate: float = 1.0, **settings: Any) -> R2DN:
    """Return `R2DN(Contracting(rate), **settings)`: two trajectories under one input approach each other."""
    return R2DN(Contracting(rate), **settings)


def LipschitzR2DN(*, gamma: float, rate: float = 1.0, train_gamma: bool = False, **settings: Any) -> R2DN:
    """Return `R2DN(Lipschitz(gamma, rate, trainable=train_gamma), **settings)`: the gain is at most `gamma`.

    **Arguments:**

    - `gamma`: gain bound, positive, outputs' unit over inputs' unit.
    - `rate`: in (0, 1], per sample.
    - `train_gamma`: whether training may move `gamma`.
    - `settings`: the other arguments of `R2DN`.
    """
    return R2DN(Lipschitz(gamma, rate, trainable=train_gamma), **settings)


def DissipativeR2DN(*, Q: Any, S: Any, R: Any, rate: float = 1.0, **settings: Any) -> R2DN:
    """Return `R2DN(Dissipative(Q, S, R, rate), **settings)`: an incremental supply rate is respected.

    **Arguments:**

    - `Q`: (ny, ny), symmetric, negative definite.
    - `S`: (nu, ny).
    - `R`: (nu, nu), symmetric.
    - `rate`: in (0, 1], per sample.
    - `settings`: the other arguments of `R2DN`.
    """
    return R2DN(Dissipative(Q, S, R, rate), **settings)


def _explicit_phi(phi):
    """A parameterized phi is 1-Lipschitz for every value; any other stays one only if training leaves it alone."""
    explicit = explicit_of(phi)
    if explicit is not phi:
        return explicit
    return jax.tree.map(lambda leaf: lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, phi)

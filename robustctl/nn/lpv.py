"""Linear parameter-varying (LPV) models that are contracting under every schedule."""

import functools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from typing_extensions import override

from ..checks import check_sizes, is_whole
from ..errors import InvalidModelError
from ..linalg import contraction, exact_map, slack
from ..pytrees import fields_of
from ..registry import registered
from ..system import System, step_by_step
from .arrays import check_free, check_one, check_shapes, free_dtype
from .guarantee import Guarantee, Guaranteed
from .initializers import check_memory, draw, lecun_normals, split
from .inverse import invert_contraction
from .lure import port_shapes, scaled_rows
from .numpy_maps import contraction_of, in_numpy, zeros
from .r2dn import ExplicitR2DN
from .scheduled_product import ScheduledProduct
from .supply import through_ports

_NEAR = 1 - 1e-3
"""Size of the first contractions: a memory of hundreds of samples, and a Cayley map away from its boundary."""


@registered()
class LPVSystem(System):
    """An `LPV` ready to step; of its inputs some are the schedule p, the others u.

    ::

        v = C1 x + D12 u + bv,    w = H(p) v
        x+ = A x + B1 w + B2 u + bx + E f(p),     y = C2 x + D21 w + D22 u + by + F f(p)

    `lft()` is None: the gain from the schedule has no bound. `modes()` returns the one system between u and y, whose form and claim
    are true under every schedule; a loop is certified with it in place of this one.

    **Arguments:**

    - `model`: the system from u to y with H at a schedule of zeros.
    - `product`: H and f as functions of p.
    - `E`: offset of the state per feature, (nx, nf).
    - `F`: offset of the output per feature, (ny, nf).
    - `schedule`: positions of the schedule among the inputs.
    """

    model: ExplicitR2DN
    product: ScheduledProduct
    E: Float[Array, "nx nf"]
    F: Float[Array, "ny nf"]
    schedule: tuple[int, ...] = eqx.field(static=True)  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def nu(self) -> int:
        """Number of inputs, the schedule included."""
        return self.model.nu + len(self.schedule)

    @property
    def ny(self) -> int:
        """Number of outputs."""
        return self.model.ny

    def init_state(self) -> Float[Array, " nx"]:
        """Return the zero state."""
        return self.model.init_state()

    def step(
        self, x: Float[Array, " nx"], u: Float[Array, " {self.nu}"]
    ) -> tuple[Float[Array, " nx"], Float[Array, " {self.ny}"]]:
        """Return `(x_next, y)`; here the input is the whole one, p and u."""
        return self.at(u[jnp.asarray(self.schedule)]).step(x, u[jnp.asarray(self._others())])

    def at(self, p: Float[Array, " np"]) -> ExplicitR2DN:
        """Return the affine system from u to y that this one is while the schedule is p.

        **Raises:** `InvalidModelError` for another number of entries.
        """
        check_one(self, self.model.bx)
        if jnp.shape(p) != (len(self.schedule),):
            raise InvalidModelError(
                f"a schedule must have {len(self.schedule)} entries, inputs {list(self.schedule)}, got shape {jnp.shape(p)}"
            )
        f = self.product.read(jnp.asarray(p, self.model.bx.dtype))
        bx, by = self.model.bx + self.E @ f, self.model.by + self.F @ f
        return eqx.tree_at(lambda m: (m.phi, m.bx, m.by), self.model, (self.product.at(f), bx, by))

    @override
    def scan(self, x0: Float[Array, " nx"], us: Float[Array, "T nu"]) -> tuple[Array, Array, Array]:
        """Return `(xs, ys, x_final)` over a sequence, with what depends on the schedule alone computed for all samples at once."""

        def scheduled(p):
            system = self.at(p)
            return system.phi, system.bx, system.by

        def body(x, sample):
            parts, u = sample
            return eqx.tree_at(lambda m: (m.phi, m.bx, m.by), self.model, parts).step(x, u)

        known = jax.vmap(scheduled)(us[:, jnp.asarray(self.schedule)])
        return step_by_step(body, x0, (known, us[:, jnp.asarray(self._others())]))

    @override
    def modes(self) -> tuple[System, ...]:
        """Return the system from u to y; it steps at a schedule of zeros, and its form is true under every schedule."""
        return (self.model,)

    @override
    def check_parts(self) -> None:
        """Refuse arrays and positions that do not fit each other.

        **Raises:** `InvalidModelError`.
        """
        m, p = self.model, self.product
        check_one(self, m.bx)
        checked_positions(self.schedule, self.nu)
        factors, nv, nf, hidden = len(p.q), m.bv.size, 1 + len(self.schedule) + p.b.size, p.b.size
        check_shapes(p, W=(hidden, len(self.schedule)), K=(factors, nv, nf), q=(factors, nf))
        check_shapes(self, E=(m.bx.size, nf), F=(m.by.size, nf))

    def _others(self) -> tuple[int, ...]:
        return tuple(k for k in range(self.nu) if k not in self.schedule)


def _sizes(model: "LPV") -> dict[str, Any]:
    nx, ny, product = len(model.E), len(model.F), model.product
    nv, scheduled = product.K.shape[1], len(model.schedule)
    others = len(model.G2) - nv - nx if model.ports is None else model.ports.B2.shape[1]
    return {
        "guarantee": model.guarantee, "nu": others + scheduled, "nx": nx, "nv": nv, "ny": ny, "schedule": model.schedule,
        "factors": len(product.K), "hidden": product.b.size,
    }  # fmt: skip


@registered()
class FreePorts(eqx.Module):
    """The ports of an `LPV` without a supply rate."""

    B2: Float[Array, "nx nu"]
    C2: Float[Array, "ny nx"]
    D12: Float[Array, "nv nu"]
    D21: Float[Array, "ny nv"]
    D22: Float[Array, "ny nu"]


@registered(sizes=_sizes)
class LPV(Guaranteed):
    """Linear parameter-varying model that keeps its guarantee under every schedule p, whatever its free arrays.

    ::

        x+ = A(p) x + B(p) u + bx(p),      y = C(p) x + D(p) u + by(p)

        [A(p), B(p); C(p), D(p)] = [0, B2; C2, D22] + [B1; D21] H(p) [C1, D12],      |H(p)| <= 1

    with the matrix H of a `ScheduledProduct`. `Contracting(rate)` has contractions B1 and C1 / rate, and all else is free; with a supply
    rate `[B1; D21]` and `[C1 / rate, D12]` are contractions, B2 and C2 are zero, and ports change as in an R2DN. Between two
    trajectories with the same schedule, which may be any sequence of finite numbers, however fast::

        |dx+|^2 - rate^2 |dx|^2 <= dy' Q dy + 2 du' S dy + du' R du

    with zero on the right for equal u and contraction alone. Trajectories with different schedules have no such bound: p multiplies
    the state. The schedule is among the inputs, at the positions `schedule`, so that a model is fitted, simulated and run like any
    other. Source: the product is that of Siems et al., "DeltaProduct", arXiv 2502.10297; a schedule in a linear fractional form as in
    Packard, "Gain scheduling via linear fractional transformations", Systems & Control Letters, 1994; the parameterization is ours.

    **Arguments:**

    - `guarantee`: `Contracting(rate)`, `Lipschitz(gamma, rate)` or `Dissipative(Q, S, R, rate)`, of the inputs that are no schedule.
    - `nu`: number of inputs, the schedule included.
    - `nx`: number of states.
    - `nv`: width of H, `nx` or more; with a supply rate `nx + nu + ny` or more.
    - `ny`: number of outputs.
    - `schedule`: positions of the schedule among the inputs.
    - `factors`: number of factors of H; an even one starts near the identity.
    - `hidden`: width of the hidden layer that reads the schedule.
    - `memory`: about the shortest and longest time constant of the modes at the start, samples, at a rate of 1; a smaller rate shortens
      them.
    - `key`: seeds the initial values, one PRNG key.
    - `dtype`: of the free arrays, float32 or float64; default that of JAX.

    **Raises:** `InvalidModelError` for a size below 1, positions that are not of some of the inputs, each once, another dtype, a supply
    rate for other numbers of inputs and outputs, and a memory that is not finite.

    **Example:** ::

        model = rc.nn.LPV(rc.nn.Contracting(0.95), nu=2, nx=3, nv=4, ny=1, schedule=(1,), key=jax.random.key(0))
        print(rc.certify(model, prove=False))
    """

    G1: Float[Array, "_ _"]
    G2: Float[Array, "_ _"]
    ports: FreePorts | None
    product: ScheduledProduct
    E: Float[Array, "nx nf"]
    F: Float[Array, "ny nf"]
    guarantee: Guarantee
    schedule: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self, guarantee: Guarantee, *, nu: int, nx: int, nv: int, ny: int, schedule: Sequence[int], factors: int = 2, hidden: int = 8,
        memory: tuple[float, float] = (2.0, 200.0), key: PRNGKeyArray, dtype=None,
    ):  # fmt: skip
        check_sizes(nu=nu, nx=nx, nv=nv, ny=ny)
        self.schedule = checked_positions(schedule, nu)
        check_memory(memory)
        dtype, others = free_dtype(dtype), nu - len(self.schedule)
        self.guarantee = guarantee.for_ports(others, ny, dtype)
        start_key, port_key, product_key, offset_key = split(key, 4)
        self.ports = None
        within = others, ny
        if not guarantee.bounds_output:
            B2, C2, D12, D21 = lecun_normals(port_key, port_shapes(others, nx, nv, ny), dtype)
            self.ports, within = FreePorts(B2, C2, D12, D21, zeros((ny, others), dtype)), (0, 0)
        self.G1, self.G2 = _first_contractions(nx, within, nv, memory, dtype, start_key)
        self.product = ScheduledProduct(
            nv, len(self.schedule), factors=factors, hidden=hidden, key=product_key, dtype=dtype
        )
        shapes = [(nx, self.product.features), (ny, self.product.features)]
        self.E, self.F = lecun_normals(offset_key, shapes, dtype, 0.1)

    @exact_map
    def explicit(self) -> LPVSystem:
        """Map to the model."""
        check_free(self, self.product.b)
        nx, ny, nv, dtype = len(self.E), len(self.F), self.product.K.shape[1], self.E.dtype
        rows = nx if self.ports else nx + ny
        N1, N2 = contraction(self.G1, (rows, nv)), contraction(self.G2, (nv, len(self.G2) - nv))
        zero, nu = functools.partial(jnp.zeros, dtype=dtype), len(self.G2) - nv - nx
        supply = None if self.ports else self.guarantee.supply(nu, ny, dtype)
        if supply is None:
            ports = tuple(fields_of(self.ports).values())
        else:
            ports = through_ports(supply, zero((nx, nu)), zero((ny, nx)), N2[:, nx:], N1[nx:], zero((ny, nu)))
        B2, C2, D12, D21, D22 = ports
        model = ExplicitR2DN(
            A=zero((nx, nx)), B1=N1[:nx], B2=B2, C1=self.rate * N2[:, :nx], C2=C2, D12=D12, D21=D21, D22=D22, bx=zero(nx), bv=zero(nv),
            by=zero(ny), P=jnp.eye(nx, dtype=dtype), supply=supply, rate=self.rate, phi=self.product.explicit(),
        )  # fmt: skip
        return LPVSystem(model, self.product, self.E, self.F, self.schedule)

    @override
    def quiet(self, factor: float = 1e-2) -> "LPV":
        """Return the model with its output scaled down by `factor`."""
        nx, ny, nv, dtype = len(self.E), len(self.F), self.product.K.shape[1], self.E.dtype
        quiet = eqx.tree_at(lambda m: m.F, self, factor * self.F)
        if self.ports is not None:
            return eqx.tree_at(lambda m: m.ports, quiet, scaled_rows(self.ports, factor, "C2", "D21", "D22"))

        def compute(G):
            N = contraction_of(G, (nx + ny, nv), dtype)
            N[nx:] *= factor
            # Rounding may have left a norm of one, which the map reaches at infinity alone.
            return [invert_contraction((1 - slack(dtype)) * N, dtype)]

        return eqx.tree_at(lambda m: m.G1, quiet, in_numpy(compute, [self.G1.shape], dtype, self.G1)[0])


def _first_contractions(
    nx: int, ports: tuple[int, int], nv: int, memory: tuple[float, float], dtype: Any, key: PRNGKeyArray
) -> tuple[Array, ...]:
    """Return free arrays of two contractions whose product is a system of gain at most one with modes of such time constants."""
    nu, ny = ports

    def arrays(rng):
        a = np.exp(-1 / np.exp(rng.uniform(*np.log(memory), nx)))
        B, C = (
            M / (2 * max(np.linalg.norm(M, 2), 1e-9))
            for M in (rng.normal(size=(nx, nu + 1)), rng.normal(size=(ny + 1, nx)))
        )
        B, C, d = B[:, :nu], C[:ny], np.sqrt(1 - a**2)
        # By Parrott's theorem the whole is a contraction.
        whole = np.block([[np.diag(a), d[:, None] * B], [C * d, -(C * a) @ B]])
        U, s, V = np.linalg.svd(whole, full_matrices=False)
        n = min(nv, len(s))
        # A random turn, so that each direction of H acts on each state.
        turn = np.linalg.qr(rng.normal(size=(nv, nv)))[0][:, :n]
        root = _NEAR * np.sqrt(s[:n])
        found = (U[:, :n] * root) @ turn.T, turn @ (root[:, None] * V[:n])
        return [invert_contraction(N, dtype) for N in found]

    return draw(arrays, [(a + b, min(a, b)) for a, b in ((nx + ny, nv), (nv, nx + nu))], dtype, key)


def checked_positions(schedule: Any, nu: int) -> tuple[int, ...]:
    """Return the positions of some of nu inputs, or raise `InvalidModelError` unless they are that, each once, and not of all."""
    known = np.ndim(schedule) == 1 and all(is_whole(k, 0) and k < nu for k in schedule)
    if not (known and 0 < len(set(schedule)) == len(schedule) < nu):
        raise InvalidModelError(
            f"schedule must be positions from 0 to {nu - 1} of the {nu} inputs, at least one, each once, and leave an input that "
            f"is none, got {schedule}; record.inputs.index(name) is that of a channel"
        )
    return tuple(int(k) for k in schedule)

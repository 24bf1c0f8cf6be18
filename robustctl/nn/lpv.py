"""Linear parameter-varying models, contracting with a prescribed gain under every schedule."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from typing_extensions import override

from ..checks import check_sizes
from ..linalg import contraction, exact_map, slack
from ..registry import registered
from .arrays import check_free, free_dtype
from .diagonal import check_memory, first_modes
from .guarantee import Guaranteed, Lipschitz
from .initializers import draw, split
from .inverse import invert_contraction
from .lpv_system import LPVSystem, ScheduleMap, check_positions
from .numpy_maps import contraction_of, in_numpy

_NEAR = 1 - 1e-3
"""Size of the first contractions: a memory of hundreds of samples, and a Cayley map away from its boundary."""

_REFLECTION = 5.0
"""First logit of a reflection, 2 sigmoid(5) = 1.987: two along one vector are almost the identity."""


def _sizes(model: "LPV") -> dict[str, Any]:
    m = model.schedule_map
    (nx, ny), (factors, nv, _), (hidden, _) = (len(m.E), len(m.F)), m.K.shape, m.W.shape
    return {
        "nu": len(model.G2) - nv - nx + len(model.schedule), "nx": nx, "ny": ny, "schedule": model.schedule, "factors": factors,
        "nv": nv, "hidden": hidden, "gamma": 1.0, "train_gamma": model.guarantee.log_gamma_ratio is not None,
    }  # fmt: skip


@registered(sizes=_sizes)
class LPV(Guaranteed):
    """Linear parameter-varying model, of prescribed gain and rate under every schedule p, whatever the free arrays.

    ::

        x+ = A(p) x + B(p) u + bx(p),      y = C(p) x + D(p) u + by(p)

        [A(p)/rate, B(p); C(p)/(gamma rate), D(p)/gamma] = N_1 H(p) N_2,      H(p) = prod_j (I - beta_j(p) k_j(p) k_j(p)')

    with contractions N_1 and N_2, unit vectors k_j and `0 <= beta_j <= 2`, so that `|H(p)| <= 1`. Between two trajectories with the
    same schedule, which may be any sequence of finite numbers, however fast::

        gamma |dx+|^2 - rate^2 gamma |dx|^2 <= gamma |du|^2 - |dy|^2 / gamma

    Trajectories with different schedules have no such bound: p multiplies the state. The schedule is among the inputs, at the
    positions `schedule`, so that a model is fitted, simulated and run like any other. At a fixed schedule every linear system of this
    gain and rate is reached. k_j, beta_j, bx and by are a linear function of p and of a hidden layer. Source: the product is that of
    Siems et al., "DeltaProduct", arXiv 2502.10297; its use as an LPV model with a bound is ours.

    **Arguments:**

    - `nu`: number of inputs, the schedule included.
    - `nx`: number of states.
    - `ny`: number of outputs.
    - `schedule`: positions of the schedule among the inputs.
    - `factors`: number of factors of H, an even one to start near the identity.
    - `nv`: width of H; default `nx` plus the larger of the numbers of other inputs and of outputs.
    - `hidden`: width of the hidden layer that reads the schedule.
    - `gamma`: gain bound from the other inputs, positive, outputs' unit over inputs' unit.
    - `rate`: in (0, 1], per sample.
    - `train_gamma`: whether training may move `gamma`.
    - `memory`: shortest and longest time constant of the modes at the start, samples.
    - `key`: seeds the initial values, one PRNG key.
    - `dtype`: of the free arrays, float32 or float64; default that of JAX.

    **Raises:** `InvalidModelError` for a size below 1, positions that are not of some of the inputs, each once, another dtype, gamma not
    positive and finite, a rate outside (0, 1], and a memory that is not finite.

    **Example:** ::

        model = rc.nn.LPV(nu=2, nx=3, ny=1, schedule=(1,), gamma=2.0, rate=0.95, key=jax.random.key(0))
        print(rc.certify(model, prove=False))
    """

    G1: Float[Array, "_ _"]
    G2: Float[Array, "_ _"]
    schedule_map: ScheduleMap
    guarantee: Lipschitz
    schedule: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self, *, nu: int, nx: int, ny: int, schedule: Sequence[int], factors: int = 2, nv: int | None = None, hidden: int = 8,
        gamma: float, rate: float = 1.0, train_gamma: bool = False, memory: tuple[float, float] = (2.0, 200.0), key: PRNGKeyArray,
        dtype=None,
    ):  # fmt: skip
        check_sizes(nu=nu, nx=nx, ny=ny, factors=factors, hidden=hidden)
        self.schedule = tuple(schedule)
        check_positions(self.schedule, nu)
        check_memory(memory)
        np_ = len(self.schedule)
        ports = nu - np_, ny
        nv = nx + max(ports) if nv is None else nv
        check_sizes(nv=nv)
        dtype = free_dtype(dtype)
        self.guarantee = Lipschitz(gamma, rate, trainable=train_gamma).for_ports(nu - np_, ny, dtype)
        constant_key, schedule_key = split(key, 2)
        left, right = (nx + ny, nv), (nv, nx + nu - np_)
        shapes = [(a + b, min(a, b)) for a, b in (left, right)]
        self.G1, self.G2 = draw(
            lambda rng: [
                invert_contraction(N, dtype) for N in _first_contractions(rng, nx, ports, nv, memory)
            ],
            shapes, dtype, constant_key,
        )  # fmt: skip
        nf = 1 + np_ + hidden
        shapes = [(hidden, np_), (hidden,), (factors, nv, nf), (factors, nf), (nx, nf), (ny, nf)]
        self.schedule_map = ScheduleMap(
            *draw(lambda rng: _first_schedule_map(rng, shapes), shapes, dtype, schedule_key)
        )

    @exact_map
    def explicit(self) -> LPVSystem:
        """Map to the model."""
        m = self.schedule_map
        check_free(self, m.b)
        (nx, _), (ny, _), nv = m.E.shape, m.F.shape, m.K.shape[1]
        rate, gamma = self.rate, self.guarantee.gamma(m.b.dtype)
        N1 = contraction(self.G1, (nx + ny, nv))
        N2 = contraction(self.G2, (nv, len(self.G2) - nv))
        return LPVSystem(
            B1=N1[:nx], C1=rate * N2[:, :nx], D12=N2[:, nx:], D21=gamma * N1[nx:], schedule_map=m, gamma=gamma, rate=rate,
            schedule=self.schedule,
        )  # fmt: skip

    @override
    def quiet(self, factor: float = 1e-2) -> "LPV":
        """Return the model with its output scaled down by `factor`."""
        m, dtype = self.schedule_map, self.G1.dtype
        nx, ny, nv = len(m.E), len(m.F), m.K.shape[1]

        def compute(G):
            N = contraction_of(G, (nx + ny, nv), dtype)
            N[nx:] *= factor
            # Rounding may have left a norm of one, which the map reaches at infinity alone.
            return [invert_contraction((1 - slack(dtype)) * N, dtype)]

        (G1,) = in_numpy(compute, [self.G1.shape], dtype, self.G1)
        return eqx.tree_at(lambda a: (a.G1, a.schedule_map.F), self, (G1, factor * m.F))


def _first_contractions(
    rng: np.random.Generator, nx: int, ports: tuple[int, int], nv: int, memory: tuple[float, float]
) -> list[np.ndarray]:
    """Return N_1 and N_2 whose product is a system of gain at most one with modes of such time constants."""
    nu, ny = ports
    A, size = first_modes(rng, nx, memory)
    K1, K2 = (M / (2 * np.linalg.norm(M, 2)) for M in (rng.normal(size=(nx, nu)), rng.normal(size=(ny, nx))))
    # As `DiagonalParameters` does: by Parrott's theorem the whole is a contraction.
    d = np.sqrt(1 - size**2)
    U, s, V = np.linalg.svd(np.block([[A, d[:, None] * K1], [K2 * d, -K2 @ A.T @ K1]]), full_matrices=False)
    n = min(nv, len(s))
    # A random turn, so that each direction of H acts on each state.
    turn = np.linalg.qr(rng.normal(size=(nv, nv)))[0][:, :n]
    root = _NEAR * np.sqrt(s[:n])
    return [(U[:, :n] * root) @ turn.T, turn @ (root[:, None] * V[:n])]


def _first_schedule_map(rng: np.random.Generator, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Return random features of the schedule, pairs of reflections along almost the same vector, and small offsets."""
    W, b, K, q, E, F = (rng.standard_normal(shape) for shape in shapes)
    (factors, nv, nf), np_ = K.shape, W.shape[1]
    K, q, E, F = (
        K * 0.3 / np.sqrt(nv * nf),
        0.1 * q / np.sqrt(nf),
        0.1 * E / np.sqrt(nf),
        0.1 * F / np.sqrt(nf),
    )
    first = rng.standard_normal((-(-factors // 2), nv))
    K[:, :, 0] = (first / np.linalg.norm(first, axis=1, keepdims=True)).repeat(2, axis=0)[:factors]
    # The last of an odd number has no partner: it starts near the identity itself.
    q[:, 0] = np.where(np.arange(factors) < factors // 2 * 2, _REFLECTION, -_REFLECTION)
    return [W / np.sqrt(np_), b, K, q, E, F]

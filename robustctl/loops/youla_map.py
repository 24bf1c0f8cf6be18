"""The closed loop of a linear plant as Youla wrote it: affine in the learned system."""

import math
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from typing_extensions import override

from ..errors import InvalidModelError
from ..lft import LFT, joined, saturation, signals
from ..ports import Loop, Ports, named
from ..registry import registered
from ..state_space import StateSpace
from ..system import System
from .parts import Of, forms


class YoulaOutput(NamedTuple):
    """Performance output `z` (nz,) and the learned control `u` (nu,), within its limit."""

    z: Array
    u: Array


@registered(name="loops.YoulaMap", null={"limit": math.inf})
class YoulaMap(Loop):
    """The closed loop of a linear plant and base controller, seen from the disturbance `d`.

    ::

        z = T0 d + T1 sat(q(T2 d)),     |sat(u)| <= limit

    Every stabilizing controller of a linear plant has this form with some stable q, and its gain is at most
    `|T0| + |T1| gamma |T2|` (H-infinity norms) for a q of gain gamma; `sat` has slope at most one and
    changes nothing in this. Source: [BWM23], Sec. III.

    **Arguments:**

    - `t0`: T0, from d (nd,) to z (nz,).
    - `t1`: T1, from the learned control (nu,) to z.
    - `t2`: T2, from d to what q reads (ny,).
    - `q`: the learned system.
    - `limit`: largest magnitude of each learned control; infinite for none.

    **Raises:** `InvalidModelError` for maps whose sizes or sample times do not fit each other and a limit that is not positive.
    """

    t0: StateSpace
    t1: StateSpace
    t2: StateSpace
    q: System
    limit: float = eqx.field(static=True)
    dt, inputs, input_units = Of("t0"), Of("t0"), Of("t0")

    @property
    @override
    def nu(self) -> int:
        """Number of disturbances."""
        return self.t0.D.shape[1]

    @property
    @override
    def ny(self) -> int:
        """Number of outputs `[z, u]`."""
        return sum(self.t1.D.shape)

    @property
    @override
    def outputs(self) -> tuple[str, ...]:
        """Names of z and of the learned control."""
        return self.t0.outputs + self.t1.inputs

    @property
    @override
    def output_units(self) -> tuple[str, ...]:
        """Units of z and of the learned control."""
        return self.t0.output_units + self.t1.input_units

    @override
    def lft(self) -> LFT | None:
        """Return the form from d to `[z, u]`; a limit is a block with slopes in [0, 1]."""
        parts = forms(self.t0, self.t1, self.t2, self.q)
        if parts is None:
            return None
        nu = self.t1.D.shape[1]
        parts.append(saturation(np.full(nu, np.isfinite(self.limit))))
        z0, z1, y, v, u, d = signals(parts, self.nu)
        return joined(parts, [d, u, d, y, v], [z0 + z1, u])

    @override
    def ports(self) -> Ports | None:
        """Return the form from d to z and u by name; None where q has no form."""
        form, nz = self.lft(), self.t0.D.shape[0]
        if form is None:
            return None
        known = {"z": self.t0.outputs, "u": self.t1.inputs}
        return Ports(
            form, named({"d": form.nu}, {"d": self.inputs}), named({"z": nz, "u": form.ny - nz}, known)
        )

    def __check_init__(self):
        """Refuse maps that do not fit each other."""
        (nz, nd), (nu,), ny = self.t0.D.shape, self.t1.D.shape[1:], self.t2.D.shape[0]
        if self.t1.D.shape[0] != nz or self.t2.D.shape[1] != nd:
            raise InvalidModelError(
                f"T0, T1 and T2 must have shapes (nz, nd), (nz, nu) and (ny, nd), got {self.t0.D.shape}, "
                f"{(self.t1.D.shape[0], nu)} and {(ny, self.t2.D.shape[1])}"
            )
        if len({self.t0.dt, self.t1.dt, self.t2.dt}) > 1:
            raise InvalidModelError(
                f"T0, T1 and T2 must have one sample time, got {self.t0.dt}, {self.t1.dt} and {self.t2.dt} s"
            )
        if not self.limit > 0:
            raise InvalidModelError(f"limit must be positive (inf for none), got {self.limit}")

    @override
    def init_state(self) -> tuple[PyTree, ...]:
        """Return the initial states of T0, T1, T2 and q."""
        return tuple(part.init_state() for part in (self.t0, self.t1, self.t2, self.q))

    @override
    def step(self, x: tuple[PyTree, ...], u: Float[Array, " nd"]) -> tuple[tuple[PyTree, ...], YoulaOutput]:
        """Return `(x_next, YoulaOutput)`; here the input is the disturbance."""
        x0, x1, x2, xq = x
        x2, y = self.t2.step(x2, u)
        xq, v = self.q.step(xq, y)
        control = jnp.clip(v, -self.limit, self.limit)
        x0, z0 = self.t0.step(x0, u)
        x1, z1 = self.t1.step(x1, control)
        return (x0, x1, x2, xq), YoulaOutput(z0 + z1, control)

    @override
    def scan(self, x0: tuple[PyTree, ...], us: Float[Array, "T nd"]) -> tuple[PyTree, YoulaOutput, PyTree]:
        """Return `(xs, ys, x_final)` over a sequence: nothing feeds back, so the parts run one after the other."""
        (x0s, z0, x0_end), (x2s, y, x2_end) = self.t0.scan(x0[0], us), self.t2.scan(x0[2], us)
        xqs, v, xq_end = self.q.scan(x0[3], y)
        control = jnp.clip(v, -self.limit, self.limit)
        x1s, z1, x1_end = self.t1.scan(x0[1], control)
        return (x0s, x1s, x2s, xqs), YoulaOutput(z0 + z1, control), (x0_end, x1_end, x2_end, xq_end)

    @override
    def prepare(self) -> "YoulaMap":
        """Return the same with q prepared for many steps."""
        return YoulaMap(self.t0, self.t1, self.t2, self.q.prepare(), self.limit)

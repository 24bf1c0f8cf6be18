"""A rotary-arm (Furuta) pendulum driven by a DC motor."""

from typing import ClassVar

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from typing_extensions import override

from ..registry import registered
from .plant import Plant, Task, parameter
from .signal import Signal

_SOURCE = "Quanser QUBE-Servo 2 data sheet"


@registered(name="plants.RotaryPendulum", sizes=lambda plant: {})
class RotaryPendulum(Plant):
    """A pendulum at the end of a motor-driven arm; theta is the arm's angle, alpha the pendulum's from upright.

    ::

        (Jr + mp Lr^2 + J2 sin^2 alpha) theta'' + mp Lr l cos(alpha) alpha''
            = kt (u - km theta') / Rm - Dr theta' + mp Lr l sin(alpha) alpha'^2 - J2 sin(2 alpha) theta' alpha'
        mp Lr l cos(alpha) theta'' + J2 alpha''
            = mp g l sin(alpha) - Dp alpha' + J2 sin(2 alpha) theta'^2 / 2 + d

    with `l = Lp/2`, `J2 = mp Lp^2 / 3` and `Jr = mr Lr^2 / 3` of thin rods about their pivots. Measured: both
    angles. The disturbance d is a torque on the pendulum. Source: Cazzolato, Prime, "On the dynamics of the Furuta
    pendulum", J. Control Science and Engineering 2011, eqs. (33)-(34), for a thin rod; numbers of the Quanser
    QUBE-Servo 2.
    """

    states: ClassVar = (
        Signal("arm", "rad"),
        Signal("pendulum", "rad"),
        Signal("arm speed", "rad/s"),
        Signal("pendulum speed", "rad/s"),
    )
    controls: ClassVar = (Signal("voltage", "V", -10.0, 10.0),)
    disturbances: ClassVar = (Signal("torque", "N m"),)
    outputs: ClassVar = (Signal("arm", "rad"), Signal("pendulum", "rad"))

    arm_mass: Array = parameter(0.095, "kg", _SOURCE)
    arm_length: Array = parameter(0.085, "m", _SOURCE)
    pendulum_mass: Array = parameter(0.024, "kg", _SOURCE)
    pendulum_length: Array = parameter(0.129, "m", _SOURCE)
    arm_friction: Array = parameter(0.0015, "N m s/rad", "commonly used for the QUBE-Servo 2")
    pendulum_friction: Array = parameter(0.0005, "N m s/rad", "commonly used for the QUBE-Servo 2")
    motor_constant: Array = parameter(0.042, "N m/A", _SOURCE)
    resistance: Array = parameter(8.4, "ohm", _SOURCE)
    gravity: Array = parameter(9.81, "m/s^2")

    @override
    def rates(self, x: Float[Array, "4"], u: Float[Array, "1"], d: Float[Array, "1"]) -> Array:
        _, alpha, v, w = x
        sin, cos = jnp.sin(alpha), jnp.cos(alpha)
        # The two equations as M (theta'', alpha'') = (arm, rod), with the symmetric mass matrix M = [M11 M12; M12 J2].
        J2 = self.pendulum_mass * self.pendulum_length**2 / 3
        couple = self.pendulum_mass * self.arm_length * self.pendulum_length / 2
        M11 = (self.arm_mass / 3 + self.pendulum_mass) * self.arm_length**2 + J2 * sin**2
        M12 = couple * cos
        motor = self.motor_constant * (u[0] - self.motor_constant * v) / self.resistance
        weight = self.pendulum_mass * self.gravity * self.pendulum_length / 2
        arm = motor - self.arm_friction * v + couple * sin * w**2 - 2 * J2 * sin * cos * v * w
        rod = weight * sin - self.pendulum_friction * w + J2 * sin * cos * v**2 + d[0]
        det = M11 * J2 - M12**2
        return jnp.stack([v, w, (J2 * arm - M12 * rod) / det, (M11 * rod - M12 * arm) / det])


class BalanceArm(Task):
    """Hold the pendulum upright and the arm at zero against random torques.

    ::

        cost = (arm / 0.5 rad)^2 + (pendulum / 0.1 rad)^2 + (voltage / 5 V)^2 / 10

    The initial angles are within 0.1 rad; the torque is piecewise constant, uniform on +-0.5 mN m, drawn every 20
    samples. Fails when the pendulum is beyond 0.8 rad or the arm beyond one turn.
    """

    @override
    def initial_state(self, key: PRNGKeyArray) -> Float[Array, "4"]:
        """Draw both angles, with zero speeds."""
        angles = jr.uniform(key, (2,), minval=-0.1, maxval=0.1)
        return jnp.concatenate([angles, jnp.zeros_like(angles)])

    @override
    def disturbance(self, key: PRNGKeyArray, samples: int) -> Float[Array, "{samples} 1"]:
        """Draw a piecewise constant torque in N m."""
        return jnp.repeat(jr.uniform(key, (-(-samples // 20), 1), minval=-5e-4, maxval=5e-4), 20, axis=0)[
            :samples
        ]

    @override
    def cost(self, x: Float[Array, "4"], u: Float[Array, "1"], r: Float[Array, " nr"]) -> Float[Array, ""]:
        return (x[0] / 0.5) ** 2 + (x[1] / 0.1) ** 2 + 0.1 * (u[0] / 5.0) ** 2

    @override
    def terminated(self, x: Float[Array, "4"]) -> Bool[Array, ""]:
        """Return whether the pendulum fell or the arm wound up."""
        return ~((jnp.abs(x[1]) < 0.8) & (jnp.abs(x[0]) < 2 * jnp.pi))

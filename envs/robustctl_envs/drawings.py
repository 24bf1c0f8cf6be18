"""One drawing per plant: `draw(axes, plant, x, control)`, with lengths in their units on the axes."""

import numpy as np

INK, BLUE, ORANGE, GREY = "#3C3C3C", "#0072B2", "#E69F00", "#B0B0B0"


def _frame(ax, x, y, xlabel, ylabel, equal=True):
    ax.set_xlim(*x)
    ax.set_ylim(*y)
    ax.set_xlabel(xlabel, fontsize=8)
    ax.set_ylabel(ylabel, fontsize=8)
    if equal:
        ax.set_aspect("equal")


def signals(ax, plant, x, control):
    """Bars of the states, for a plant without its own drawing."""
    names = [f"{s.name} [{s.unit}]" if s.unit else s.name for s in plant.states]
    ax.barh(range(len(x)), x, color=BLUE)
    ax.set_yticks(range(len(x)), names)
    reach = max(1.0, float(np.max(np.abs(x), initial=0.0)))
    ax.set_xlim(-reach, reach)
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.set_xlabel("value", fontsize=8)
    ax.set_position((0.28, 0.12, 0.68, 0.74))  # room for the names


def magnetic_suspension(ax, plant, x, control):
    """A ball below a coil; the gap is drawn downwards, in mm."""
    from matplotlib.patches import Circle, Rectangle

    gap = 1e3 * float(x[0])
    ax.add_patch(Rectangle((-20, -25), 40, 25, facecolor=GREY, edgecolor=INK))
    for k in range(5):
        ax.plot([-24, 24], [-5 - 4 * k, -7 - 4 * k], color=ORANGE, linewidth=2.5)
    ax.add_patch(Circle((0, gap + 8), 8, facecolor=BLUE, edgecolor=INK))
    ax.axhline(1e3 * float(plant.setpoint), color=INK, linewidth=0.8, linestyle="--")
    ax.text(38, 1e3 * float(plant.setpoint) - 2, "set point", fontsize=8, ha="center")
    _frame(ax, (-60, 60), (-30, 120), "mm", "gap [mm]")
    ax.invert_yaxis()


def rotary_pendulum(ax, plant, x, control):
    """The arm from above on the left, the pendulum from the arm's end on the right."""
    arm, pendulum = float(x[0]), float(x[1])
    r, l = 100 * float(plant.arm_length), 100 * float(plant.pendulum_length)
    turn = np.linspace(0, 2 * np.pi, 100)
    ax.plot(-16 + r * np.cos(turn), r * np.sin(turn), color=GREY, linewidth=0.8)
    ax.plot(
        [-16, -16 + r * np.sin(arm)], [0, r * np.cos(arm)], color=INK, linewidth=5, solid_capstyle="round"
    )
    ax.text(-16, -17.5, "arm, from above", fontsize=8, ha="center")
    ax.plot([16, 16], [-l, l], color=GREY, linewidth=0.8, linestyle="--")
    ax.plot(
        [16, 16 + l * np.sin(pendulum)],
        [0, l * np.cos(pendulum)],
        color=BLUE,
        linewidth=5,
        solid_capstyle="round",
    )
    ax.plot([16], [0], "o", color=INK, markersize=8)
    ax.text(16, -17.5, "pendulum, from the arm's end", fontsize=8, ha="center")
    _frame(ax, (-34, 34), (-21, 21), "cm", "cm")


def cart_pole(ax, plant, x, control):
    """A cart on its track with the pole on top."""
    from matplotlib.patches import Rectangle

    position, angle = float(x[0]), float(x[1])
    length = 2 * float(plant.half_length)
    ax.plot([-2.4, 2.4], [-0.1, -0.1], color=GREY, linewidth=2)
    ax.add_patch(Rectangle((position - 0.25, -0.1), 0.5, 0.3, facecolor=INK))
    tip = (position + length * np.sin(angle), 0.2 + length * np.cos(angle))
    ax.plot([position, tip[0]], [0.2, tip[1]], color=ORANGE, linewidth=5, solid_capstyle="round")
    _frame(ax, (-2.6, 2.6), (-0.5, 1.9), "position [m]", "height [m]")


def planar_quadrotor(ax, plant, x, control):
    """A bar with two rotors; the arrows are the thrusts."""
    center, roll, arm = np.asarray(x[:2], float), float(x[2]), float(plant.arm)
    along, up = np.array([np.cos(roll), np.sin(roll)]), np.array([-np.sin(roll), np.cos(roll)])
    ends = center + arm * along, center - arm * along
    ax.plot(*np.transpose(ends), color=INK, linewidth=5, solid_capstyle="round")
    for end, thrust in zip(ends, np.asarray(control, float), strict=True):
        ax.annotate(
            "", end + 0.25 * thrust * up, end, arrowprops={"arrowstyle": "->", "color": ORANGE, "lw": 2}
        )
        blade = np.transpose([end + 0.04 * up - 0.15 * along, end + 0.04 * up + 0.15 * along])
        ax.plot(*blade, color=BLUE, linewidth=2)
    ax.plot([0], [0], "+", color=GREY, markersize=12)
    _frame(ax, (-2.2, 2.2), (-1.6, 1.9), "x [m]", "z [m]")


def tanks(ax, plant, x, control):
    """Levels in their tanks; a lower tank is drawn below the one that drains into it."""
    from matplotlib.patches import Rectangle

    corners = [(0, 26), (0, 0)] if len(x) == 2 else [(0, 0), (24, 0), (0, 26), (24, 26)]
    for (left, bottom), level, signal in zip(corners, x, plant.states, strict=True):
        ax.add_patch(Rectangle((left, bottom), 14, float(level), facecolor=BLUE, alpha=0.6))
        ax.plot(
            [left, left, left + 14, left + 14],
            [bottom + 20, bottom, bottom, bottom + 20],
            color=INK,
            linewidth=1.5,
        )
        ax.plot([left + 7, left + 7], [bottom, bottom - 3], color=BLUE, linewidth=2)
        ax.text(left + 7, bottom + 20.7, f"{signal.name} {float(level):.1f} cm", fontsize=8, ha="center")
    _frame(ax, (-12, 50) if len(x) > 2 else (-24, 38), (-4, 50), "", "height [cm], tanks of 20 cm")
    ax.set_xticks([])
    ax.set_yticks([0, 10, 20, 26, 36, 46], ["0", "10", "20", "0", "10", "20"])


def reaction_diffusion(ax, plant, x, control):
    """The profile over the rod."""
    z = np.linspace(0, float(plant.length), len(x))
    ax.fill_between(z, x, color=BLUE, alpha=0.25)
    ax.plot(z, x, color=BLUE, linewidth=1.8)
    ax.plot(z[len(z) // 2], x[len(z) // 2], "o", color=ORANGE, label="measured middle")
    ax.plot([z[0], z[-1]], [x[0], x[-1]], "s", color=INK, label="boundary")
    ax.legend(fontsize=8, frameon=False, loc="upper right")
    low, high = min(-0.1, float(np.min(x)) - 0.05), max(1.2, float(np.max(x)) + 0.25)
    _frame(ax, (0, float(plant.length)), (low, high), "z [1]", "xi [1]", equal=False)


DRAWINGS = {
    "MagneticSuspension": magnetic_suspension,
    "RotaryPendulum": rotary_pendulum,
    "CartPole": cart_pole,
    "PlanarQuadrotor": planar_quadrotor,
    "TwoTanks": tanks,
    "QuadrupleTank": tanks,
    "ReactionDiffusion": reaction_diffusion,
}

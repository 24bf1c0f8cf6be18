"""Draw the pictures of the start page: `python docs/make_picture.py`, about a minute on two CPU cores."""

from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.plot.canvas import BLUE, CYCLE, GREY, INK, SMALL, heading, panels
from robustctl.problems import heat_exchanger, two_tanks

STARTS, SPREAD, SAMPLES = 9, 2.0, 240
STATIC = Path(__file__).parent / "_static"


def main() -> None:
    """Draw both."""
    forgets()
    beats_linear()


def beats_linear() -> None:
    """Fit the example of the start page, and draw its free run and the linear model's, with the error of both."""
    train, test = heat_exchanger(1000, seed=0), heat_exchanger(600, seed=1)
    linear = rc.identify.subspace(train)
    begin = rc.identify.start(train, linear, nv=16, hidden=(32,), key=jr.key(0))
    problem = rc.train.Identification(train, scaling=begin.scaling, initial=begin.initial, delay=begin.delay)
    optimizer = rc.train.two_rate_adam(500)
    fitted = rc.train.train(problem, begin.model, optimizer=optimizer, epochs=500, key=jr.key(1))
    compared = rc.compare_models({"subspace": linear.model, "R2DN": fitted.model}, test)
    print(compared)
    fit = {name: fit for _, name, _, fit in compared.rows()}

    first, t, y = compared.skipped, test.time(), test.experiments[0].y[:, 0]
    shown = slice(first, first + 300)
    figure, axes = panels(2, 1, (7.5, 2.2), sharex=True, height_ratios=(2.2, 1.2))
    top, bottom = axes[:, 0]
    top.plot(t[shown], y[shown], color=GREY, linewidth=3.0, label="measured")
    for name, color in (("subspace", CYCLE[1]), ("R2DN", BLUE)):
        y_hat = compared.simulations[name].y_hat[0][:, 0]
        top.plot(t[shown], y_hat[shown], color=color, linewidth=1.3, label=f"{name}, fit {fit[name]:.1f} %")
        bottom.plot(t[shown], (y - y_hat)[shown], color=color, linewidth=1.0)
    top.set_ylabel("outlet [°C]", fontsize=SMALL + 1)
    bottom.set_ylabel("error [°C]", fontsize=SMALL + 1)
    bottom.set_xlabel("time [s]", fontsize=SMALL + 1)
    top.legend(frameon=False, fontsize=SMALL, ncols=3)
    top.margins(x=0)
    heading(figure, "Free run on a log that neither model was fitted to")
    figure.savefig(STATIC / "beats_linear.png")


def forgets() -> None:
    """Fit a contracting model to a log, run it from many initial states, and draw what is proven of them."""
    record = two_tanks(1200, seed=0)
    core = rc.nn.ContractingR2DN(
        nu=1, nx=4, nv=8, ny=1, hidden=(16,), rate=0.988, init=rc.nn.long_memory, key=jr.key(0)
    )
    start = rc.train.learned_state(horizon=20)
    model = rc.fit(core, record, initial=start, epochs=800, key=jr.key(1)).model
    certificate = rc.certify(model)
    print(certificate)
    system, log = model.explicit(), two_tanks(SAMPLES, seed=1)
    print("NRMSE of another log, free run:", rc.simulate(model, two_tanks(400, seed=1)).scores().nrmse)

    us = jnp.asarray(log.experiments[0].u, model.dtype)
    away = jr.normal(jr.key(2), (STARTS, len(certificate.P)))
    L = np.linalg.cholesky(certificate.P)
    away = SPREAD * away / np.linalg.norm(away @ L, axis=1, keepdims=True)  # all equally far, in the metric
    own = rc.rollout(system, us)
    others = jax.vmap(lambda x0: rc.rollout(system, us, x0))(system.init_state() + away)

    t = log.dt * np.arange(SAMPLES)
    width = gain_of_state(system, certificate, L) * SPREAD * certificate.rate ** np.arange(SAMPLES)
    middle = np.asarray(own.ys[:, 0])
    assert (np.abs(others.ys[:, :, 0] - middle) <= width).all()

    figure, axes = panels(2, 1, (7.5, 2.2), sharex=True, height_ratios=(3.2, 1.2))
    level, pump = axes[:, 0]
    level.fill_between(
        t, middle - width, middle + width, color=BLUE, alpha=0.13, linewidth=0, label="proven: none leaves it"
    )
    for k, y in enumerate(np.asarray(others.ys[:, :, 0])):
        level.plot(t, y, color=CYCLE[k % len(CYCLE)], linewidth=1.0)
    level.plot(t, middle, color=INK, linewidth=1.6, label="the model's own initial state")
    pump.plot(t, us[:, 0], color=GREY, linewidth=1.2, drawstyle="steps-post")
    level.set_ylabel("level [V]", fontsize=SMALL + 1)
    pump.set_ylabel("pump [V]", fontsize=SMALL + 1)
    pump.set_xlabel("time [s]", fontsize=SMALL + 1)
    level.legend(frameon=False, fontsize=SMALL)
    level.margins(x=0)
    heading(figure, "One input, ten initial states: the model forgets where it started")
    figure.savefig(STATIC / "forgets.png")


def gain_of_state(system, certificate, L) -> float:
    """Return a bound on |dy| / |dx|_P for equal inputs: y = C2 x + D21 phi(C1 x + ...), phi Lipschitz."""
    inner = system.system
    metric = np.linalg.inv(L.T)
    straight = np.linalg.norm(inner.C2 @ metric, 2)
    through = np.linalg.norm(inner.D21, 2) * certificate.phi_bound * np.linalg.norm(inner.C1 @ metric, 2)
    return float(system.y_std[0]) * (straight + through)


if __name__ == "__main__":
    main()

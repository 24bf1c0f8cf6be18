"""What the figures show."""

import dataclasses
import itertools
import warnings

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl import plot
from robustctl.certificates import certify
from robustctl.errors import DataError, RobustctlError
from robustctl.plot.canvas import line, panels, time_axis
from robustctl.plot.histories import history
from robustctl.robustness.figures import _degrees
from robustctl.train import FittedModel, ZeroState

from .simulations import NAN, broken, example, fitted, simulation

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning", "error::UserWarning")


def texts(figure):
    figure.draw_without_rendering()
    return figure.get_suptitle(), [ax.get_title(loc="left") for ax in figure.axes]


@pytest.mark.parametrize("ny", [1, 3])
def test_compare_states_what_it_shows(ny):
    units = ["rad", "rad/s", ""][:ny]
    s = example(
        ny, 2, 200, skipped=10, gaps=True, outputs=["angle", "speed", "$c$"][:ny], output_units=units, t0=5.0
    )
    figure = plot.compare(s)
    heading, titles = texts(figure)
    assert (
        "Free-run simulation" in heading
        and "warm-up window of 10 samples" in heading
        and "10 samples skipped" in heading
    )
    assert titles == [
        f"fit {f:.1f} %, NRMSE {n:.3g}" for f, n in zip(s.scores().fit_percent, s.scores().nrmse, strict=True)
    ]
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert labels == ["angle [rad]", "speed [rad/s]", r"\$c\$"][:ny]
    assert figure.axes[-1].get_xlabel() == "time [s]"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["skipped", "measured", "simulated"]


def test_compare_draws_times_gaps_and_skipped_samples():
    e = np.full(50, 0.1)
    e[20:30], e[24] = NAN, 0.1
    ax = plot.compare(simulation([np.zeros(50)], [np.sin(np.arange(50.0))], [e], skipped=5, t0=2.0)).axes[0]
    measured, dot, simulated = ax.lines
    np.testing.assert_allclose(measured.get_xdata(), 2.0 + 0.02 * np.arange(50))
    assert np.flatnonzero(np.isnan(measured.get_ydata())).tolist() == [*range(20, 24), *range(25, 30)]
    np.testing.assert_allclose(dot.get_xdata(), [2.48])
    assert np.flatnonzero(np.isnan(simulated.get_ydata())).tolist() == list(range(5))
    (shaded,) = ax.patches
    np.testing.assert_allclose([shaded.get_x(), shaded.get_x() + shaded.get_width()], [2.0, 2.08])


def test_compare_draws_several_experiments_and_says_how_many():
    s = example(2, 1, 100, 5, name="run")
    figure = plot.compare(s)
    heading, titles = texts(figure)
    assert (
        len(figure.axes) == 6
        and "first 3 of 5 experiments" in heading
        and "all 5 experiments: y[0] fit" in heading
    )
    assert [t.splitlines()[0] for t in titles[:3]] == ["run[0]", "run[1]", "run[2]"]
    spread = np.std(s.record.experiments[1].y[:, 0])
    assert f"NRMSE {np.sqrt(np.mean(s.errors()[1][:, 0] ** 2)) / spread:.3g}" in titles[1]
    assert len(plot.compare(s, experiments=1).axes) == 2
    with pytest.raises(DataError, match="at least 1, got 0"):
        plot.compare(s, experiments=0)


def test_compare_draws_an_interval():
    s = example(samples=100, t0=1.0)
    ax = plot.compare(s, interval=(1.5, 1.7)).axes[0]
    np.testing.assert_allclose(ax.lines[0].get_xdata()[[0, -1]], [1.5, 1.7])
    with pytest.raises(DataError, match=r"got 9 to 10 s for one from 1 to 2\.98 s"):
        plot.compare(s, interval=(9.0, 10.0))


def test_compare_puts_undefined_scores_into_words():
    _, titles = texts(plot.compare(broken()))
    assert titles[:3] == [
        "fit undefined, constant measurement",
        "fit undefined, no measured sample",
        "not finite",
    ]
    assert titles[3].startswith("fit 9")


def test_residuals_shows_a_panel_for_each_pair():
    rng = np.random.default_rng(0)
    u = rng.normal(size=(300, 2))
    e = np.column_stack([rng.normal(size=300), np.roll(u[:, 0], 2)])
    figure = plot.residuals(
        simulation([u], [np.zeros((300, 2))], [e], inputs=["force", "flow"], outputs=["a", "b"]), 12
    )
    heading, titles = texts(figure)
    assert len(figure.axes) == 6 and "99 %" in heading
    assert (
        titles[4].startswith("with force: ")
        and titles[5].startswith("with flow")
        and "12 outside" in titles[0]
    )
    assert int(titles[4].split()[2]) >= 1 and figure.axes[3].get_ylabel() == "residual of\nb"
    assert all(ax.get_xlabel() == "lag [samples of 0.02 s]" for ax in figure.axes[3:])
    flat = simulation([np.zeros(100)], [np.zeros(100)], [np.zeros(100)])
    assert "undefined" in plot.residuals(flat).axes[0].texts[0].get_text()


def many():
    return example(8, 7, 100, 2, outputs=[f"position_of_a_joint_with_a_long_name_{k}" for k in range(8)])


def test_many_channels_are_cut_to_six_and_counted():
    figure = plot.compare(many())
    assert len(figure.axes) == 12 and "first 6 of 8 outputs" in figure.get_suptitle()
    assert len(figure.axes[0].get_ylabel()) <= 50
    figure = plot.residuals(many(), 5)
    assert len(figure.axes) == 42 and "first 6 of 8 outputs and 6 of 7 inputs" in figure.get_suptitle()


def test_training_marks_the_best_epoch():
    figure = plot.training(fitted([1.0, 0.1, 0.01], [2.0, 0.5, 0.7], best=1))
    ax = figure.axes[0]
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert ax.get_yscale() == "log" and labels == ["training", "validation", "best: epoch 1, 0.5"]
    assert figure.axes[-1].get_xlabel() == "epoch" and "returned epoch 1" in figure.get_suptitle()
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [2.0, 0.5, 0.7])


def test_training_without_validation_with_losses_below_zero_or_no_epoch():
    ax = plot.training(fitted([1.0, -0.1, NAN], best=1)).axes[0]
    assert ax.get_yscale() == "linear" and len(ax.get_legend().get_texts()) == 2
    plot.training(fitted([NAN], best=-1, stopped="not finite")).draw_without_rendering()
    with pytest.raises(RobustctlError, match="must have an epoch"):
        plot.training(fitted([], stopped="interrupted"))


def test_losses_in_32_bits_draw_without_a_warning():
    columns = {
        "loss": np.array([1.0, np.inf, 1e30, 0.1], np.float32),
        "validation": np.full(4, NAN, np.float32),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = history(columns, -1, "").axes[0]
    np.testing.assert_allclose(ax.lines[0].get_ydata()[[0, 2, 3]], [1.0, 1e30, 0.1], rtol=1e-6)


def test_contraction_draws_distances_below_the_certified_line():
    model = rc.nn.ContractingR2DN(nu=1, nx=3, nv=4, ny=1, hidden=(5,), rate=0.9, key=jr.key(1))
    proof = certify(model, prove=False)
    us = jnp.sin(0.3 * jnp.arange(60.0))[:, None]
    outputs, distances = plot.contraction(model, proof, us, states=4, key=jr.key(2)).axes
    *curves, bound = distances.lines
    assert len(outputs.lines) == 4 and len(curves) == 3
    for curve in curves:
        y = np.asarray(curve.get_ydata(), float)
        assert y[0] == 1.0 and np.all((y <= bound.get_ydata() * (1 + 1e-9)) | np.isnan(y))
    with pytest.raises(RobustctlError, match="at least 2"):
        plot.contraction(model, proof, us, states=1, key=jr.key(2))
    with pytest.raises(RobustctlError, match="size 2, got"):
        plot.contraction(model, dataclasses.replace(proof, P=np.eye(2)), us, key=jr.key(2))
    with pytest.raises(RobustctlError, match="one that does not: no proof"):
        plot.contraction(model, dataclasses.replace(proof, holds=False, reason="no proof"), us, key=jr.key(2))


@pytest.mark.parametrize(
    ("start", "span", "label", "unit"),
    [
        (0.0, 1e-7, "time [ns]", 1e-9), (0.0, 4e-6, "time [µs]", 1e-6), (0.0, 4e-4, "time [ms]", 1e-3),
        (0.0, 0.3, "time [s]", 1.0), (0.0, 2e5, "time [s]", 1.0), (1.0, 30.0, "time [s]", 1.0),
        (5.0, 4e-4, "time - 5 s [ms]", 1e-3), (1.7e9, 4e3, "time - 1700000000 s [s]", 1.0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("width", [3.2, 7.5])
def test_labels_of_time_axes_have_a_unit_that_fits_and_do_not_touch(start, span, label, unit, width):
    figure, axes = panels(1, 1, (width, 2.0))
    ax = axes[0, 0]
    line(ax, np.linspace(start, start + span, 50), np.zeros(50))
    ax.margins(x=0.01)
    time_axis(ax)
    figure.draw_without_rendering()
    assert ax.get_xlabel() == label
    inside = [tick for tick in ax.get_xticklabels() if start <= tick.get_position()[0] <= start + span]
    late = 0.0 if "-" not in label else start
    for tick in inside:
        np.testing.assert_allclose(
            late + float(tick.get_text()) * unit, tick.get_position()[0], atol=1e-3 * span
        )
    boxes = [tick.get_window_extent() for tick in inside]
    assert len(boxes) >= 3 and all(a.x1 + 5 < b.x0 for a, b in itertools.pairwise(boxes))


@pytest.mark.parametrize(
    ("low", "high", "step"),
    [(-20, 5, 5), (-85, 0, 15), (-180, -5, 45), (-270, 90, 90), (-540, 200, 180), (-3000, -100, 720)],
)
def test_phases_have_ticks_at_parts_or_multiples_of_right_angles(low, high, step):
    ax = panels(1, 1, (4, 2))[1][0, 0]
    ax.set_ylim(low, high)
    ax.yaxis.set_major_locator(_degrees(ax))
    ticks = ax.get_yticks()
    assert np.all(np.diff(ticks) == step) and np.all(ticks % step == 0)


def test_contraction_names_output_and_time():
    core = rc.nn.ContractingR2DN(nu=1, nx=2, nv=2, ny=2, hidden=(3,), rate=0.9, key=jr.key(0))
    scaling = rc.data.Scaling.identity(1, 2)
    model = FittedModel(core, ZeroState(), scaling, 1e-3, ("u",), ("speed", "level"), ("",), ("rad/s", "m"))
    figure = plot.contraction(model, certify(model, prove=False), jnp.ones((60, 1)), states=2, key=jr.key(1))
    outputs, distances = figure.axes
    assert (outputs.get_ylabel(), distances.get_xlabel()) == ("speed [rad/s]", "time [ms]")
    assert "shown: the first of 2 outputs" in figure.get_suptitle()
    np.testing.assert_allclose(outputs.lines[0].get_xdata(), 1e-3 * np.arange(60))
    bare = plot.contraction(core, certify(core, prove=False), jnp.ones((60, 1)), states=2, key=jr.key(1))
    assert (bare.axes[0].get_ylabel(), bare.axes[1].get_xlabel()) == ("y[0]", "time [samples]")


def test_long_lines_keep_their_extremes_and_gaps():
    y = np.random.default_rng(0).normal(size=200_000)
    y[50_000:60_000], y[123_456], y[777] = NAN, 50.0, -40.0
    figure, axes = panels(1, 1, (4, 2))
    line(axes[0, 0], np.arange(y.size), y, color="k")
    drawn = axes[0, 0].lines[0]
    assert len(drawn.get_xdata()) < 15_000 and np.all(np.diff(drawn.get_xdata()) > 0)
    assert (np.nanmin(drawn.get_ydata()), np.nanmax(drawn.get_ydata())) == (-40.0, 50.0)
    inside = (drawn.get_xdata() > 50_100) & (drawn.get_xdata() < 59_900)
    assert inside.any() and np.isnan(drawn.get_ydata()[inside]).all()
    figure.draw_without_rendering()


def test_figures_leave_no_global_state_and_show_in_notebooks():
    figure = plot.compare(example())
    assert figure._repr_png_().startswith(b"\x89PNG")
    import matplotlib.pyplot as plt

    assert plt.get_fignums() == []

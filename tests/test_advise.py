"""Advice before training: each sign on a plant that has it, and none on a lag, which has none."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.signal import lfilter, lfiltic

from robustctl.advice import Advice, advise, findings
from robustctl.advice.arx import OutputSeries, best_arx
from robustctl.advice.baseline import linear_baseline
from robustctl.advice.channels import at_ends, explained, lost_mark, period, resolution, spectrum
from robustctl.advice.signs import play
from robustctl.data import Record, Scaling, from_arrays
from robustctl.problems import cascaded_tanks

from .data_fixtures import refused, shared_data  # noqa: F401

DT = 0.5
TAU = 20  # samples
NOISE = 0.05  # of the output's standard deviation


def random_steps(samples=1200, hold=25, seed=0):
    return np.repeat(np.random.default_rng(seed).uniform(-1, 1, samples // hold + 1), hold)[:samples]


def smooth(samples=1200, width=40, seed=0):
    noise = np.random.default_rng(seed).normal(size=samples + width)
    return np.convolve(noise, np.hanning(width), "valid")[:samples] / np.sqrt(width)


def lag(u, tau=TAU):
    pole = math.exp(-1 / tau)
    return lfilter([0, 1 - pole], [1, -pole], u)


def noisy(y, share=NOISE, seed=1):
    return y + share * np.std(y) * np.random.default_rng(seed).normal(size=np.shape(y))


def bistable(u, dt=0.2):
    x, y = 1.0, []
    for value in u:
        y.append(x)
        x += dt * (x - x**3 + value)
    return np.array(y)


def stick_slip(u, threshold):
    p, y = u[0], []
    for value in u:
        p = value if abs(value - p) > threshold else p
        y.append(p)
    return np.array(y)


def advice_on(u, y) -> Advice:
    """Advice whose text and JSON are what every caller may rely on."""
    advice = advise(from_arrays(u, y, DT))
    assert max(map(len, str(advice).splitlines())) <= 100
    assert json.loads(json.dumps(advice.to_dict(), allow_nan=False))["suits"] == advice.suits
    return advice


def kinds(advice: Advice) -> set[str]:
    return {finding.kind for finding in advice.findings}


@pytest.mark.parametrize("u", [random_steps(), smooth(), np.random.default_rng(0).normal(size=1200)])
def test_a_lag_raises_nothing(u):
    clean = lag(u)
    advice = advice_on(u, noisy(clean))
    assert kinds(advice) == set() and advice.suits
    output = advice.outputs[0]
    assert output.memory == pytest.approx(math.log(100) * TAU, rel=0.15)
    assert output.linear_nrmse == pytest.approx(NOISE * np.std(clean) / np.std(clean[800:]), rel=0.2)
    assert "no sign against a contracting model" in str(advice).lower()


def test_a_dead_time_does_not_hide_the_linear_floor():
    u = np.random.default_rng(0).normal(size=1200)
    output = advice_on(u, noisy(lag(np.concatenate([np.zeros(16), u[:-16]]), 10))).outputs[0]
    assert output.linear_nrmse < 1.5 * NOISE and 14 <= output.delay <= 17


def test_many_modes_are_no_curve():
    """Ten resonances in two outputs: the floor is the noise, which no ARX model of order 8 comes near."""
    rng = np.random.default_rng(0)
    radius, angle = rng.uniform(0.97, 0.99, 10), np.linspace(0.2, 2.6, 10)
    u, modes = rng.normal(size=(3000, 2)), []
    for r, w, into in zip(radius, angle, rng.normal(size=(10, 2)), strict=True):
        modes.append(lfilter([0, 1], [1, -2 * r * math.cos(w), r**2], u @ into))
    clean = np.transpose(modes) @ rng.normal(size=(10, 2))
    y = clean + NOISE * clean.std(axis=0) * rng.normal(size=clean.shape)
    for output in advise(from_arrays(u, y, DT)).outputs:
        assert output.joint and output.order >= 18
        assert output.linear_nrmse == pytest.approx(NOISE, rel=0.3)


def test_noise_on_the_output_does_not_shorten_the_memory():
    u = random_steps()
    series = OutputSeries("e", u[:, None], noisy(lag(u), 0.3), np.ones(1200, bool), np.ones(1200, bool))
    found = best_arx([series])
    assert found is not None and found[0].memory(5000) == pytest.approx(math.log(100) * TAU, rel=0.25)


@pytest.mark.parametrize("growth, kind", [(0.4, "integrator"), (2.0, "unstable")])
def test_a_pole_is_unstable_only_if_it_grows_over_the_record(growth, kind):
    """Of an integrator the estimate may lie significantly above one, by next to nothing."""
    output = SimpleNamespace(pole=1 + growth / 12_000, pole_t=3.3, summed=0.9)
    assert findings._drift(output, 12_000)[0] == kind


@pytest.mark.parametrize("u", [random_steps(), smooth()])
def test_an_integrator_is_distinguished_from_a_drift(u):
    integrated = advice_on(u, noisy(np.cumsum(u)))
    assert kinds(integrated) == {"integrator"} and not integrated.suits
    assert integrated.outputs[0].summed > 0.9
    walk = 0.3 * np.cumsum(np.random.default_rng(3).normal(size=1200))
    assert "drift" in kinds(advice_on(u, lag(u, 5) + walk))


def test_an_unstable_plant():
    u = np.random.default_rng(0).normal(size=400)
    assert "unstable" in kinds(advice_on(u, lfilter([0, 1], [1, -1.02], u)))


@pytest.mark.parametrize("after", [1, 5])
def test_backlash(after):
    u = smooth()
    advice = advice_on(u, noisy(lag(play(u, 0.5 * np.std(u, keepdims=True))[:, 0], after)))
    assert kinds(advice) == {"hysteresis"} and not advice.suits
    assert advice.outputs[0].play_nrmse < 0.5 * advice.outputs[0].curved_nrmse


def test_static_curves_are_no_hysteresis():
    u = smooth()
    for y in (lag(u**3, 10), np.tanh(2 * lag(u, 10) / np.std(lag(u, 10)))):
        assert advice_on(u, noisy(y, 0.02)).suits


def test_stick_slip():
    u = smooth(width=60)
    advice = advice_on(u, noisy(stick_slip(u, 0.5 * np.std(u)), 0.02))
    assert kinds(advice) == {"sticking"} and advice.outputs[0].stuck > 0.4


def converter(u):
    """Averaged buck converter: an LC filter with a resonance at a 25th of the sample rate, damping ratio 0.3."""
    w, zeta = 2 * np.pi / 25, 0.3
    a1, a2 = -2 * math.exp(-zeta * w) * math.cos(w * math.sqrt(1 - zeta**2)), math.exp(-2 * zeta * w)
    return lfilter([0, 1 + a1 + a2], [1, a1, a2], u)


@pytest.mark.parametrize("levels", [12, 25, 40])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_a_quantized_output_does_not_stick(levels, noise):
    u = random_steps(hold=15)
    y = noisy(converter(u), noise)
    step = np.ptp(y) / (levels - 1)
    rounded = 3.0 + step * np.rint((y - y.min()) / step)
    advice = advice_on(u, rounded)
    output = advice.outputs[0]
    assert kinds(advice) == {"quantized"} and advice.suits
    assert output.levels == levels and output.level_step == pytest.approx(1 / (levels - 1))
    assert "half a level" in str(advice)


def test_a_stick_slip_output_sticks_though_it_is_quantized():
    u = smooth(width=60)
    y = noisy(stick_slip(u, 1.0 * np.std(u)), 0.02)
    step = np.ptp(y) / 40
    assert kinds(advice_on(u, step * np.rint(y / step))) == {"quantized", "sticking"}


def test_levels_of_a_channel():
    assert resolution(np.tile([0.0, 1.0, 3.0, 7.0], 10)) == (4, 1 / 7)
    assert resolution(np.tile([3.91, 3.9, 3.92, 3.89], 10)) == (4, pytest.approx(1 / 3))  # printed levels
    assert resolution(np.tile([0.0, 1.0, 3.2], 10)) == (0, 0.0)
    assert resolution(np.round(np.linspace(0, 1, 1000), 3)) == (0, 0.0)


@pytest.mark.parametrize("mark", [-9999.0, 999.9, -999.25, 32767.0, 1e30])
@pytest.mark.parametrize("field", ["u", "y"])
def test_numbers_that_stand_for_lost_samples(mark, field):
    u = random_steps(400)
    signals = {"u": u, "y": noisy(lag(u))}
    signals[field][[20, 150, 151, 333]] = mark
    advice = advice_on(**signals)
    found = [f for f in advice.findings if f.kind == "marks"]
    assert [f.channel for f in found] == [f"{field}[0]"] and f"missing={mark:.10g}" in found[0].text
    assert advice.findings[0 if field == "y" else -1].kind != "spikes"


def test_signals_that_reach_such_numbers_are_measured():
    near, alone, other = np.linspace(0, 9999, 50), np.full(50, -9999.0), np.repeat([0.0, 900.0, 10.0], 9)
    for values in (near, np.arange(-999.0, 1000.0), alone, other):
        assert math.isnan(lost_mark(values))


def test_an_input_logged_on_change_is_named():
    u = random_steps(600, 25)
    changes = np.where(np.arange(600) % 25 == 0, u, np.nan)
    with refused(r"more consecutive samples.*less than half of the samples: 'u\[0\]'.*hold='u\[0\]'"):
        advise(from_arrays(changes, noisy(lag(u)), DT))
    often = np.where(np.arange(600) % 50 < 40, u, np.nan)
    (gaps,) = [f for f in advice_on(often, noisy(lag(u))).findings if f.kind == "gaps"]
    assert gaps.channel == "u[0]" and "hold='u[0]'" in gaps.text


@pytest.mark.parametrize(
    ("factor", "message"), [(1e-200, "above zero.*'y\\[0\\]'|'y\\[0\\]'.*above zero"), (1e300, "finite")]
)
def test_values_that_cannot_be_squared_are_refused_as_in_training(factor, message):
    u = random_steps(200)
    record = from_arrays(u, factor * lag(u), DT)
    for refuses in (advise, Scaling.fit):
        with refused(f"{message}.*change the unit"):
            refuses(record)
    small = advise(from_arrays(1e-100 * u, 1e-100 * noisy(lag(u)), DT))
    assert all(c.varies for c in (*small.inputs, *small.outputs))


def test_several_equilibria():
    u = np.random.default_rng(2).choice([-0.6, -0.2, 0.0, 0.2, 0.6], 20).repeat(60)
    assert "equilibria" in kinds(advice_on(u, noisy(bistable(u), 0.02)))
    one = advice_on(u, noisy(lag(u, 5), 0.02))
    assert one.suits and one.outputs[0].steady_states > 5 and one.outputs[0].steady_gap < 0.1


def test_the_repeatability_floor():
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, 30)
    lines = np.arange(1, 31)[:, None] * 2 * np.pi / 200
    u = np.tile(np.cos(lines * np.arange(200) + phases[:, None]).sum(axis=0), 6)
    y = noisy(lag(u, 8) ** 3, 0.1)
    advice = advice_on(u, y)
    truth = 0.1 / math.hypot(1, 0.1)
    assert advice.period == 200
    assert advice.outputs[0].repeat_nrmse == pytest.approx(truth, rel=0.2)
    assert advice.inputs[0].frequencies == pytest.approx(30, rel=0.01)
    linear = advice_on(u, noisy(lag(u, 8), 0.1))
    assert kinds(linear) == {"linear"} and linear.suits


def test_a_record_shorter_than_its_memory():
    u = random_steps(200, 10)
    alone = advice_on(u, noisy(lag(u, 80), 0.01))
    assert kinds(alone) == {"memory"} and alone.suits
    assert alone.outputs[0].memory == pytest.approx(math.log(100) * 80, rel=0.3)
    two = advice_on([u, u[:60]], [noisy(lag(u), 0.01), noisy(lag(u)[:60], 0.01)])
    assert kinds(two) == {"memory"} and "1 of 2 experiments" in two.findings[0].text


def pair(u_factor, y_factor):
    us, level = [random_steps(seed=k) for k in range(2)], 2.0
    ys = [level + noisy(lag(u)) for u in us]
    return advice_on([us[0], u_factor * us[1]], [ys[0], y_factor * ys[1]])


@pytest.mark.parametrize(
    ("factors", "channels"),
    [((1, 1000), ["y[0]"]), ((1e-3, 1), ["u[0]"]), ((1, 57.3), ["y[0]"]), ((1e3, 1e3), ["u[0]", "y[0]"])],
)
def test_experiments_whose_sizes_differ_as_units_do(factors, channels):
    found = [f for f in pair(*factors).findings if f.kind == "units"]
    assert [f.channel for f in found] == channels
    assert "times as large in experiment 'experiment[" in found[0].text and "V and mV" in found[0].text


def test_weak_and_idle_experiments_are_no_other_unit():
    assert not any(f.kind == "units" for f in pair(0.1, 0.1).findings)
    u, rng = random_steps(), np.random.default_rng(5)
    rest = 2.0 + 1e-4 * rng.normal(size=300)
    assert "units" not in kinds(advice_on([u, np.zeros(300)], [noisy(lag(u)), rest - 2.0]))
    assert "units" not in kinds(advice_on([u, 1e-3 * rng.normal(size=300)], [2 + noisy(lag(u)), rest]))


def test_an_output_that_the_inputs_do_not_determine():
    u, w = np.random.default_rng(0).normal(size=(2, 1200))
    advice = advice_on(u, lag(w))
    assert kinds(advice) == {"unobservable"} and advice.suits
    assert "these data do not determine it; log what drives it" in advice.findings[0].text


def test_saturation_and_spikes():
    u, y = random_steps(), lag(random_steps())
    clipped = advice_on(u, np.clip(noisy(y), -10, np.quantile(y, 0.85)))
    assert "saturation" in kinds(clipped)
    assert clipped.outputs[0].at_high == pytest.approx(0.15, abs=0.05) and clipped.outputs[0].at_low == 0
    y = noisy(y)
    y[[100, 500, 900]] += 3.0
    assert advice_on(u, y).outputs[0].spikes == 3


def test_readings_lost_as_zeros_are_flagged_like_a_clip():
    u = random_steps()
    y = 5 + noisy(lag(u))
    for start in (100, 400, 900):
        y[start : start + 10] = 0.0
    found = advice_on(u, y)
    assert found.outputs[0].at_low == pytest.approx(30 / 1200)
    assert "are at its lowest value; if it is clipped or was lost there" in str(found)


def test_signals_that_hold_every_value_do_not_saturate():
    rng = np.random.default_rng(0)
    for values in (random_steps(), rng.choice([0.0, 1.0], 300).repeat(4), np.round(5 * smooth(), 1)):
        assert max(at_ends([values])) < 0.01


def test_inputs_that_excite_little():
    u = np.column_stack(
        [smooth(), np.full(1200, 3.0), np.sign(random_steps(hold=7)), smooth() + 1e-3 * random_steps()]
    )
    advice = advice_on(u, noisy(lag(u[:, 0]) + lag(u[:, 2])))
    found = {(f.channel, f.kind) for f in advice.findings}
    assert found == {("u[1]", "constant"), ("u[2]", "binary"), ("u[0]", "collinear"), ("u[3]", "collinear")}
    sine = np.sin(2 * np.pi * np.arange(1200) / 100)
    advice = advice_on(sine, noisy(lag(sine)))
    assert kinds(advice) == {"excitation", "linear"} and advice.inputs[0].frequencies == pytest.approx(1)
    assert math.isnan(advice.outputs[0].play_nrmse)  # one frequency does not distinguish a play from a lag


def test_gaps():
    rng, u = np.random.default_rng(0), random_steps()
    y = noisy(lag(u))
    y[rng.random(1200) < 0.1] = np.nan
    y[300:350] = np.nan
    u[700:710] = np.nan
    advice = advice_on(u, y)
    assert kinds(advice) == {"gaps"} and advice.outputs[0].longest_gap >= 50
    assert advice.outputs[0].memory == pytest.approx(math.log(100) * TAU, rel=0.2)
    assert advice.inputs[0].longest_gap == 10


def test_constant_outputs_constant_inputs_and_outputs_of_one_experiment():
    u = random_steps(300, 10)
    y = np.column_stack([noisy(lag(u, 5)), np.full(300, 2.0), noisy(lag(u, 5))])
    gone = y * [1, 1, np.nan]
    advice = advice_on([u, u], [y, gone])
    assert [o.varies for o in advice.outputs] == [True, False, True] and kinds(advice) == {"constant", "gaps"}
    nothing = advice_on(np.ones(300), np.random.default_rng(0).normal(size=300))
    assert math.isnan(nothing.outputs[0].memory) and "unknown: no input has an effect" in str(nothing)


def test_refusals():
    u, y = random_steps(200), lag(random_steps(200))
    with refused("needs a Record, got dict"):
        advise({"u": u})  # pyright: ignore[reportArgumentType]
    with refused("30 measured samples or more.*got 20"):
        advise(from_arrays(u[:20], y[:20], DT))
    late = y.copy()
    late[120:] = np.nan
    with refused("got 120 and 0"):
        advise(from_arrays(u, late, DT))
    sparse = np.where(np.arange(200) % 2, y, np.nan)
    with refused("must have more consecutive samples without gaps"):
        advise(from_arrays(u, sparse, DT))
    record = from_arrays(u, y, DT)
    with refused("outputs must name at least one channel"):
        Record(record.experiments, DT, record.inputs, ())


def test_numbers_of_channels():
    sine = np.sin(2 * np.pi * np.arange(1000) / 50)
    low, high, count = spectrum([sine], 0.1)
    assert low == high == pytest.approx(0.2) and count == pytest.approx(1)
    assert spectrum([np.random.default_rng(0).normal(size=4000)], 1.0)[2] == pytest.approx(1000, rel=0.1)
    noise = np.random.default_rng(0).normal(size=(500, 2))
    assert period(np.tile(noise, (3, 1)))[0] == 500 and period(noise)[0] == 0
    assert explained(np.column_stack([noise, noise @ [1.0, 2.0]])) == pytest.approx(1)


def test_the_cascaded_tanks(shared_data):  # noqa: F811
    train, _ = cascaded_tanks(shared_data)
    advice = advise(train)
    assert kinds(advice) == {"saturation"} and advice.suits  # the level sensor ends at 10 V
    assert 0.15 < advice.outputs[0].linear_nrmse < 0.4 and 80 < advice.outputs[0].memory < 400


def test_a_linear_model_starts_from_a_state_fitted_to_the_first_samples():
    """A ringing system released far from equilibrium: its own equations, without noise, from its true state."""
    a, b = [1.0, -2 * 0.995 * np.cos(0.3), 0.995**2], [0.0, 0.4, 0.2]
    u = np.random.default_rng(0).standard_normal((2, 600))
    starts = lfiltic(b, a, [0, 0]), lfiltic(b, a, [40.0, -15.0])
    y = [lfilter(b, a, v, zi=z)[0] for v, z in zip(u, starts, strict=True)]
    trained, released = (from_arrays(v, w, 0.1) for v, w in zip(u, y, strict=True))
    error = [linear_baseline(trained, released, head).y_hat[0][:, 0] - y[1] for head in (0, 20)]
    assert np.abs(error[1]).max() < 1e-6 * np.abs(y[1]).max() < np.abs(error[0][20:]).max()

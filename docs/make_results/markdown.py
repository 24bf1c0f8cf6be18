"""Numbers, tables and the line that says where a table comes from."""

from collections.abc import Iterable, Sequence

COMMANDS = {
    "f16_r2dn": "python -m benchmarks f16 --model r2dn --seeds {seeds} --out results",
    "f16_ren": "python -m benchmarks f16 --model ren --seeds {seeds} --out results",
    "f16_lstm": "python -m benchmarks f16 --model lstm --seeds {seeds} --out results",
    "f16_linear": "python -m benchmarks f16 --model linear --seeds {seeds} --out results",
    "f16_lipschitz": "python -m benchmarks f16 --model lipschitz --seeds {seeds} --out results",
    "f16_ours": "python -m benchmarks f16 --model ours --seeds {seeds} --out results",
    "pde_r2dn": "python -m benchmarks pde --model r2dn --seeds {seeds} --out results",
    "pde_ren": "python -m benchmarks pde --model ren --seeds {seeds} --out results",
    "youla_r2dn": "python -m benchmarks youla --model r2dn --seeds {seeds} --out results",
    "youla_ren": "python -m benchmarks youla --model ren --seeds {seeds} --out results",
    "youla_magnetic_suspension": "python -m benchmarks magnetic-suspension --seeds {seeds} --out results",
    "youla_rotary_pendulum": "python -m benchmarks rotary-pendulum --seeds {seeds} --out results",
    "cascaded_tanks": "python -m benchmarks.identify_records cascaded_tanks --seeds {each} --out results/cascaded_tanks.json",
    "identify_auto": "python -m benchmarks.identify_auto FOLDER --seeds {each} --out results/identify_auto.json",
    "identify_compared": "python -m benchmarks.identify_compared FOLDER --jax-sysid PYTHON --tsfast PYTHON --seeds {each} "
    "--out results/identify_compared.json",
    "simulated_plants": "python -m benchmarks.simulated_plants --out results/simulated_plants.json",
    "which_model": "python -m benchmarks.which_model --f16 FOLDER --out results/which_model.json",
    "smaller_models": "python -m benchmarks.smaller_models --seeds {each} --out results/smaller_models.json",
    "bilevel": "python -m benchmarks.bilevel --seeds {each} --out results/bilevel.json",
    "silverbox": "python -m benchmarks.identify_records silverbox --seeds {each} --out results/silverbox.json",
    "actuator_delay": "python -m benchmarks.actuator_delay --out results/actuator_delay.json",
    "observe_pendulum": "python -m benchmarks.observe_pendulum --seeds {seeds} --out results/observe_pendulum.json",
    "robustness_page": "python -m benchmarks.robustness --neural-ssm PYTHON --out results/robustness_page.json",
    "lipschitz_critic": "python -m benchmarks.lipschitz_critic --out results/lipschitz_critic.json",
    "delay_memory": "python -m benchmarks.delay_memory --data FOLDER --out results/delay_memory.json",
    "moving_horizon": "python -m benchmarks.moving_horizon --out results/moving_horizon.json",
    "compare_controllers/magnetic_suspension": "python tutorials/compare_controllers.py --out runs/compare",
    "compare_controllers/rotary_pendulum": "python tutorials/compare_controllers.py --out runs/compare",
    "speed": "python -m benchmarks speed --out results",
    "speed_published": "python -m benchmarks.compare_published FOLDER --out results/speed_published.json",
    "expressivity": "python -m benchmarks expressivity --out results",
    "iterations": "python -m benchmarks.measure_iterations FOLDER --out results/iterations.json",
    "seeds": "python -m benchmarks.measure_seeds --out results/seeds.json",
    "devices": "python -m benchmarks.measure_devices --out results/devices.json",
    "loops": "python -m benchmarks.measure_loops --out results/loops.json",
    "stack_long": "python -m benchmarks.stack_long --out results/stack_long.json",
    "convex_reactor": "python -m benchmarks.convex_reactor --out results/convex_reactor.json",
    "guard_steps": "python -m benchmarks.step_times --guards --out results/guard_steps.json",
    "step_times": "python -m benchmarks.step_times --out results/step_times.json",
    "envs": "python -m benchmarks.measure_envs --out results/envs.json",
    "false_certificates": "python -m benchmarks.false_certificates --draws 2000 --out results/false_certificates.json",
    "certificate_oracle": "python -m benchmarks.certificate_oracle --count 5000 --seed 0",
    "proven_gains": "python -m benchmarks.proven_gains --out results/proven_gains.json",
    "counterexamples": "python -m benchmarks.counterexamples --data FOLDER --out results/counterexamples.json",
    "certified_models": "python -m benchmarks.certified_models --out results/certified_models.json",
    "lipschitz_networks": "python -m benchmarks.lipschitz_networks --wide --out results/lipschitz_networks.json",
    "certify_loop": "python -m benchmarks.certify_loop --out results/certify_loop.json",
    "certify_measured": "python -m benchmarks.certify_measured FOLDER --out results/certify_measured.json",
    "model_error": "python -m benchmarks.model_error --out results/model_error.json",
    "linear_models": "python -m benchmarks.linear_models --data FOLDER --out results/linear_models.json",
    "linear_coverage": "python -m benchmarks.linear_coverage --draws 200 --out results/linear_coverage.json",
    "start_at_linear": "python -m benchmarks.start_at_linear --data FOLDER --seeds 2 --out results/start_at_linear.json",
    "imitate_mpc": "python -m benchmarks.imitate_mpc --out results/imitate_mpc.json",
    "guarded": "python -m benchmarks.guarded --out results/guarded.json",
    "regions": "python -m benchmarks.regions --out results/regions.json",
    "scaled_systems": "python -m benchmarks.scaled_systems --out results/scaled_systems.json",
    "fixed_drift": "python -m benchmarks.fixed_drift --out results/fixed_drift.json",
    "kill_training": "python -m benchmarks.kill_training --kills 100 --out results/kill_training.json",
    "fuzz_runs": "python -m benchmarks.fuzz_runs --mutations 2000 --out results/fuzz_runs.json",
    "read_speed": "python -m benchmarks.read_speed --out results/read_speed.json",
    "fuzz_readers": "python -m benchmarks.fuzz_readers --mutations 2000 --out results/fuzz_readers.json",
    "model_files": "python -m benchmarks.check_model_files --out results/model_files.json",
}
"""What writes each file."""


def number(value: object, digits: int = 3) -> str:
    """Write a number of a results file, or what stands in its place."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        short = f"{value:.{digits}g}"
        return f"{value:,.0f}" if "e+" in short else short.replace("e-0", "e-")
    return str(value)


def spread(values: Iterable[float | None], digits: int = 3) -> str:
    """Write the mean of the seeds, and the lowest and highest."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return number(*known or [None], digits=digits)
    low, high = number(min(known), digits), number(max(known), digits)
    return (
        low if low == high else f"{number(sum(known) / len(known), digits)} [{low},\N{NO-BREAK SPACE}{high}]"
    )


def published(entry: dict | None, digits: int = 3) -> str:
    """Write a published mean with its range."""
    if entry is None:
        return "-"
    return "{} [{},\N{NO-BREAK SPACE}{}]".format(
        *(number(entry[key], digits) for key in ("mean", "lowest", "highest"))
    )


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a table, its first column to the left and its numbers to the right; nothing without rows."""
    rows = list(rows)
    if not rows:
        return ""
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(number(c).replace("|", "\\|") for c in line) + " |" for line in lines)


def seeds(result: dict) -> list:
    """Return the seeds of a file: of its runs where it has them."""
    if "study" in result:
        return list(range(result["study"]["seeds"]))
    runs = result.get("observers", result.get("runs"))
    if not isinstance(runs, list):
        named = result.get("seeds")
        return named if isinstance(named, list) else [result.get("seed", "not recorded")]
    return sorted({run["recipe"]["seed"] if "recipe" in run else run["seed"] for run in runs})


def command(name: str, result: dict | None = None) -> str:
    """Return the command that writes a file, in backticks."""
    made = (result or {}).get("command", COMMANDS.get(name))
    if made is None:
        return "a command that it does not record"
    found = [0, 1, 2] if result is None else seeds(result)
    return f"`{made.format(seeds=len(found), each=' '.join(map(str, found)))}`"


def origin(name: str, result: dict) -> str:
    """Write which seeds, machine, device, code and command a file comes from."""
    found, machine = seeds(result), result.get("machine", {"platform": "machine not recorded", "cpus": "?"})
    where = f"{machine['platform']}, {machine['cpus']} cores, device {result.get('device', 'not recorded')}"
    code = [result.get("date"), f"commit {result.get('commit', 'not recorded')[:12]}"]
    quick = " A quick run, whose figures mean nothing." if result.get("quick") else ""
    return (
        f"[results/{name}.json](../results/{name}.json): seed{'s' * (len(found) > 1)} {', '.join(map(str, found))}; {where}; "
        f"code of {', '.join(filter(None, code))}; {command(name, result)}.{quick}"
    )

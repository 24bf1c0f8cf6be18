"""Tables of imitated controllers."""

from .markdown import number, table

Results = dict[str, dict]


def imitated(results: Results) -> str:
    """Return what networks did that imitate a tube MPC, and their bounds."""
    rows = []
    for r in results.get("imitate_mpc", {}).get("plants", []):
        for n in r["networks"]:
            box, episodes = n["box"], n["episodes"]
            rows.append(
                (
                    f"{r['plant']}, gamma {number(n['gamma'])}",
                    n["rms"],
                    n["rms_of_optimum"],
                    n["cost"] / n["cost_of_mpc"],
                    *(
                        " / ".join(map(number, values))
                        for values in (n["deviation"], episodes["states"], box["states"])
                    ),
                    *(each["cost"] / n["cost_of_mpc"] for each in (episodes, box)),
                    f"{n['broke_a_limit']}, {n['left_the_box']} of {number(r['episodes'])}",
                    n["step_us"],
                )
            )
    heads = (
        "rms error of the action, over its standard deviation", "of the best map of that Lipschitz constant", "cost over the MPC's",
        "largest deviation of the states", "bound with the error on held-out episodes", "bound with the error on the whole box",
        "cost over the MPC's at most, held-out episodes", "whole box", "broke a limit, left the box", "step, us of CPU",
    )  # fmt: skip
    return table(("network", *heads), rows)


def imitated_experts(results: Results) -> str:
    """Return what was found of the MPCs."""
    rows = [
        (
            r["plant"], ", ".join(r["states"]), r["asked"], r["rate"], r["gain"], r["expert_lipschitz"],
            f"{r['mpc_broke_a_limit']} of {number(r['episodes'])}", r["mpc_step_us"],
        )
        for r in results.get("imitate_mpc", {}).get("plants", [])
    ]  # fmt: skip
    heads = (
        "states",
        "asked",
        "rate, searched",
        "gain",
        "Lipschitz constant, searched",
        "broke a limit",
        "step, us of CPU",
    )
    return table(("plant with tube MPC", *heads), rows)


TABLES = {"imitated": imitated, "imitated_experts": imitated_experts}

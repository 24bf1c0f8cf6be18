"""The repetition of a training: where it is, and whether it gave the same numbers."""

from pathlib import Path

AGAIN = "-again"
"""What a repetition's folder is called after the run's name."""


def again(run: Path) -> Path:
    """Return the folder of a run's repetition."""
    folder = run.resolve()  # "." has no name
    return folder.with_name(folder.name + AGAIN)


def compared(before: list[dict], after: list[dict]) -> tuple[bool, str]:
    """Return whether two training logs have the same numbers in every epoch, and what was found, in words.

    **Arguments:**

    - `before`: lines of the one, as `read_log` returns them.
    - `after`: lines of the other.
    """
    if not (before and after):
        return False, f"nothing to compare: the logs have {len(before)} and {len(after)} epochs"
    same = [_numbers(a) == _numbers(b) for a, b in zip(before, after, strict=False)]
    if all(same) and len(before) == len(after):
        return True, f"the same numbers in all {len(same)} epochs, to the last bit"
    if all(same):
        return (
            False,
            f"the same numbers in {len(same)} epochs; one run has {len(before)}, the other {len(after)}",
        )
    first = same.index(False)
    losses = f"loss {before[first]['loss']} before, {after[first]['loss']} now"
    return False, f"different numbers from epoch {first} on: {losses}"


def _numbers(row: dict) -> dict:
    """Return an epoch's line without the time at which it was written."""
    return {name: value for name, value in row.items() if name != "time"}

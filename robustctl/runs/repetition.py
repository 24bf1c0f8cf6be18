"""The repetition of a training: where it is, and whether it gave the same numbers."""

from pathlib import Path

from ..store.json_text import parse_object
from .run_folder import LOG
from .watchers import read_log

SCORES = "scores.json"
"""The file of a fit's scores in its run folder."""
AGAIN = "-again"
"""What a repetition's folder is called after the run's name."""


def again(run: Path) -> Path:
    """Return the folder of a run's repetition."""
    folder = run.resolve()  # "." has no name
    return folder.with_name(folder.name + AGAIN)


def compared(run: Path, other: Path) -> tuple[bool, str]:
    """Return whether two runs have the same numbers in every epoch, and what was found, in words.

    Runs without a training, of a linear model, are compared by their scores. A copy of a run, times included, is no repetition.

    **Arguments:**

    - `run`: the folder of the one.
    - `other`: the folder of the other.
    """
    before, after = read_log(run / LOG)[0], read_log(other / LOG)[0]
    if not before and not after:
        return _same_scores(run, other)
    # No two trainings write all of their lines at the same times.
    if before == after:
        return False, f"{other.name} is a copy of the run and no repetition: its times are the same"
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


def _same_scores(run: Path, other: Path) -> tuple[bool, str]:
    try:
        scores = [parse_object((folder / SCORES).read_bytes()) for folder in (run, other)]
    except (OSError, ValueError) as error:
        return False, f"nothing to compare: no run has an epoch, and {SCORES} cannot be read: {error}"
    # No two fits take the same time, to the last digit.
    if scores[0] == scores[1] and "seconds" in scores[0]:
        return False, f"{other.name} is a copy of the run and no repetition: its time is the same"
    # The time that a fit took is no result of it.
    before, after = ({name: value for name, value in each.items() if name != "seconds"} for each in scores)
    same = before == after
    return same, f"no training; {'the same' if same else 'different'} scores in {SCORES}"

"""The table of steps in fixed point: a function from all results to Markdown, empty where its file is absent."""

import numpy as np

from .markdown import table

Results = dict[str, dict]


def drifts(results: Results) -> str:
    r = results.get("fixed_drift")
    if r is None:
        return ""
    rows = []
    for label, of in (
        ("drawn models, proven ranges", r["models"]),
        ("systems of all kinds, ranges of a log", r["systems"]),
    ):
        for bits in of[0]["shares"]:
            shares = [row["shares"][bits] for row in of]
            known = [share for share in shares if share is not None]
            rows.append(
                (label, bits, len(known), len(shares) - len(known), max(known), float(np.median(known)))
            )
    heads = ("bits", "with a bound", "without", "largest drift / bound", "median")
    return table(("steps", *heads), rows)


TABLES = {f.__name__: f for f in (drifts,)}

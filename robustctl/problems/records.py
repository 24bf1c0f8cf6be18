"""Two small measured records, read from your own folder.

They are owned by others and are not part of this package. `folder` holds them as `cascaded_tanks/dataBenchmark.csv`
(DOI 10.4121/12960104) and `silverbox/SNLS80mV.csv` (Wigren, Schoukens, "Three free data sets for development
and benchmarking in nonlinear system identification", ECC 2013).
"""

import dataclasses
from pathlib import Path

from ..data import Record, from_arrays, read

SILVERBOX_RATE = 1e7 / 2**14  # samples per second

PUBLISHED: dict[str, dict[str, float]] = {
    "cascaded_tanks": {
        "contracting R2DN, zero state": 0.43,
        "REN, zero state": 0.37,
        "GRU, zero state": 0.60,
        "R2DN, estimated state": 0.10,
        "GRU, estimated state": 0.23,
    },
    "silverbox": {},
}
"""Free-run NRMSE of the test records, published by others."""


def cascaded_tanks(folder: str | Path) -> tuple[Record, Record]:
    """Return `(train, test)`: pump voltage -> lower level (V), 1,024 samples each, one every 4 s.

    The two records start from different, unknown levels and overflow differently; `PUBLISHED` has published scores.

    **Raises:** `DataError` or `FileNotFoundError` if the file is missing or damaged.
    """
    path = Path(folder) / "cascaded_tanks" / "dataBenchmark.csv"
    train = read(path, inputs="uEst", outputs="yEst", dt=4.0, units={"uEst": "V", "yEst": "V"})
    test = read(path, inputs="uVal", outputs="yVal", dt=4.0, units={"uVal": "V", "yVal": "V"})
    return train, dataclasses.replace(test, inputs=train.inputs, outputs=train.outputs)


def silverbox(folder: str | Path) -> tuple[Record, Record]:
    """Return `(train, test)`: the odd random-phase multisine of the silverbox, an electronic Duffing oscillator.

    Samples 40,650 to 127,400 of the file: the first 80 % to train on, the last 20 % to test (V, 610.35 Hz).

    **Raises:** `DataError` or `FileNotFoundError` if the file is missing or damaged.
    """
    path = Path(folder) / "silverbox" / "SNLS80mV.csv"
    experiment = read(path, inputs="V1", outputs="V2", dt=1 / SILVERBOX_RATE).experiments[0]
    # The multisine begins after the file's "arrow" record, whose growing noise is the usual test of extrapolation.
    cut = 40_650 + int(0.8 * (127_400 - 40_650))

    def piece(part: slice, name: str) -> Record:
        return from_arrays(
            experiment.u[part], experiment.y[part], 1 / SILVERBOX_RATE, inputs=["V1"], outputs=["V2"],
            input_units=["V"], output_units=["V"], name=name,
        )  # fmt: skip

    return piece(slice(40_650, cut), "multisine, first part"), piece(
        slice(cut, 127_400), "multisine, last part"
    )

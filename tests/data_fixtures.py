import os
from pathlib import Path

import pytest

from robustctl.errors import DataError


def refused(message: str | None = None):
    """Expect a DataError that matches `message`."""
    return pytest.raises(DataError, match=message)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the measured benchmark records; the test is skipped where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ROBUSTCTL_DATA", beside))
    if not (folder / "silverbox" / "SNLS80mV.csv").is_file():
        pytest.skip(
            "no benchmark records: set ROBUSTCTL_DATA to the folder that holds silverbox/SNLS80mV.csv"
        )
    return folder

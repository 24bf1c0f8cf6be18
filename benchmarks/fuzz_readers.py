"""Damage a valid log of each format at random, read it, and count the outcomes.

    python -m benchmarks.fuzz_readers --mutations 2000 --seed 0 --out results/fuzz_readers.json

Only two outcomes are allowed: a record, or a DataError. The process exits with 1 after any other.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks import fuzzing
from benchmarks._fork_server import ForkServer
from robustctl.data import read
from robustctl.data.readers import child, formats, regular
from robustctl.errors import DataError

SAMPLES = 64
MOST_EXAMPLES = 5


def write_valid(folder: Path, kind: str) -> list[Path]:
    """Valid files of one format, all with the channels t, u and y."""
    rng = np.random.default_rng(0)
    t = np.arange(SAMPLES) * 0.05
    data = {"t": t, "u": rng.normal(size=SAMPLES), "y": rng.normal(size=SAMPLES)}
    writers = {
        "csv": (_write_csv, _write_semicolons),
        "npz": (_write_npz, _write_npz_packed),
        "npy": (_write_npy, _write_npy_fields),
        "mat": (_write_mat, _write_mat_packed, _write_mat4, _write_mat_struct, _write_mat73),
        "hdf5": (_write_hdf5, _write_hdf5_packed),
        "parquet": (_write_parquet, _write_parquet_packed),
        "xlsx": (_write_xlsx, _write_xlsx),
    }
    paths = [folder / f"valid{index}.{kind}" for index in range(len(writers[kind]))]
    for writer, path in zip(writers[kind], paths, strict=True):
        writer(path, data)
    return paths


def _write_csv(path: Path, data: dict) -> None:
    rows = zip(*data.values(), strict=True)
    lines = ['"t","u","y",', *(f"{t:.10g},{u:.10g},{y:.10g}," for t, u, y in rows)]
    path.write_text("\n".join(lines) + "\n")


def _write_semicolons(path: Path, data: dict) -> None:
    rows = zip(*data.values(), strict=True)
    lines = ["# a comment", "t;u;y", *(f"{t:.10g};{u:.10g};{y:.10g}" for t, u, y in rows)]
    path.write_text("\r\n".join(lines), encoding="utf-8-sig")


def _write_npz(path: Path, data: dict) -> None:
    with path.open("wb") as file:
        np.savez(file, **data)


def _write_npz_packed(path: Path, data: dict) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, **data)


def _write_mat(path: Path, data: dict) -> None:
    from scipy.io import savemat

    savemat(path, data, appendmat=False)


def _write_mat_packed(path: Path, data: dict) -> None:
    from scipy.io import savemat

    savemat(path, data, appendmat=False, do_compression=True)


def _write_mat4(path: Path, data: dict) -> None:
    from scipy.io import savemat

    savemat(path, data, appendmat=False, format="4")


def _write_mat_struct(path: Path, data: dict) -> None:
    from scipy.io import savemat

    cells = {name: np.array(list(values), object) for name, values in data.items()}
    savemat(path, {"log": data, **cells, "t": data["t"]}, appendmat=False)


def _write_mat73(path: Path, data: dict) -> None:
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in data.items():
            half = len(values) // 2
            for part in (values[:half], values[half:]):
                file.create_dataset(f"#refs#/{name}{len(file.get('#refs#', ()))}", data=part[None])
            cells = [file["#refs#"][key].ref for key in file["#refs#"] if key.startswith(name)]
            file.create_dataset(name, data=np.array(cells, h5py.ref_dtype)[None])
            file[name].attrs["MATLAB_class"] = np.bytes_("cell")


def _write_hdf5(path: Path, data: dict) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, values in data.items():
            file[name] = values


def _write_hdf5_packed(path: Path, data: dict) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, values in data.items():
            file.create_dataset(name, data=values, chunks=(16,), compression="gzip", shuffle=True)


def _write_parquet(path: Path, data: dict, compression: str = "UNCOMPRESSED") -> None:
    import pandas as pd
    from fastparquet import write

    write(str(path), pd.DataFrame(data), compression=compression)


def _write_parquet_packed(path: Path, data: dict) -> None:
    _write_parquet(path, data, "SNAPPY")


def _write_npy(path: Path, data: dict) -> None:
    with path.open("wb") as file:
        np.save(file, np.stack(list(data.values()), axis=1))


def _write_npy_fields(path: Path, data: dict) -> None:
    rows = np.array(list(zip(*data.values(), strict=True)), [(name, "f8") for name in data])
    with path.open("wb") as file:
        np.save(file, rows)


def _write_xlsx(path: Path, data: dict) -> None:
    from openpyxl import Workbook

    book = Workbook()
    for row in [list(data), *map(list, zip(*data.values(), strict=True))]:
        book.active.append(row)
    book.save(path)


def mutate(raw: bytes, rng: np.random.Generator) -> bytes:
    """`raw` with one, two or four damages at random positions."""
    data = bytearray(raw)
    for _ in range(int(rng.choice([1, 1, 2, 4]))):
        if not data:
            break
        kind, at = int(rng.integers(6)), int(rng.integers(len(data)))
        length = int(rng.integers(1, 17))
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[at : at + length] = rng.bytes(min(length, len(data) - at))
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at:at] = rng.bytes(length)
        elif kind == 4:
            _swap_chunks(data, at, rng)
        else:
            data[at : at + length] = bytes([int(rng.choice([0x00, 0xFF, 0x7F, 0x80]))]) * length
    return bytes(data)


def mutate_member(raw: bytes, rng: np.random.Generator) -> bytes:
    """The zip archive `raw` with one member damaged; a damage to the archive itself only meets its checksums."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = list(members)[int(rng.integers(len(members)))]
    members[name] = mutate(members[name], rng)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def _swap_chunks(data: bytearray, at: int, rng: np.random.Generator) -> None:
    size = int(rng.integers(1, 65))
    other = int(rng.integers(len(data)))
    first, second = sorted((at, other))
    if first + size <= second and second + size <= len(data):
        data[first : first + size], data[second : second + size] = (
            data[second : second + size],
            data[first : first + size],
        )


ARCHIVES = ("npz", "xlsx")
NAMES = {"npy": (("data[0]", "data[1]", "data[2]"), ("data/t", "data/u", "data/y"))}


def attempt(kind: str, path: Path, which: int, stamped: bool) -> tuple[str, str]:
    """Outcome of reading `path`, a damaged valid file number `which`, and a text about it."""
    t, u, y = NAMES[kind][which] if kind in NAMES else "tuy"
    try:
        record = read(path, inputs=u, outputs=y, format=kind, **({"time": t} if stamped else {"dt": 0.05}))
    except DataError as error:
        return "DataError", str(error).replace(str(path.parent), "")
    except Exception:
        return "other", traceback.format_exc(limit=-3)
    finite = all(np.isfinite(e.u).all() and np.isfinite(e.y).all() for e in record.experiments)
    return ("ok", "") if finite else ("other", "a record with values that are not finite")


def fuzz(kind: str, valid: list[Path], mutations: int, seed: int, workers: int = 2) -> dict:
    """Counts of outcomes for one format, with examples of any that are not allowed."""
    raw = [path.read_bytes() for path in valid]
    stream = sum(kind.encode())

    def one(index: int) -> tuple[str, str]:
        rng = np.random.default_rng([seed, stream, index])
        path = valid[0].parent / f"{kind}-{index}"
        which = index % len(raw)
        damage = mutate_member if kind in ARCHIVES and which else mutate
        path.write_bytes(damage(raw[which], rng))
        try:
            return attempt(kind, path, which, bool(rng.integers(2)))
        finally:
            path.unlink()

    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        outcomes = list(pool.map(one, range(mutations)))
    return {
        "mutations": mutations,
        "counts": {"ok": 0, "DataError": 0, "other": 0} | Counter(outcome for outcome, _ in outcomes),
        "seconds": round(time.perf_counter() - start, 1),
        "crashes_contained": sum("crashed with signal" in text for _, text in outcomes),
        "timeouts_contained": sum("not read in" in text for _, text in outcomes),
        "others": list(_examples(outcomes)),
    }


def _examples(outcomes: list[tuple[str, str]]) -> Iterator[dict]:
    bad = [(index, text) for index, (outcome, text) in enumerate(outcomes) if outcome == "other"]
    for index, text in bad[:MOST_EXAMPLES]:
        yield {"index": index, "what": text}


def main() -> int:
    parser = fuzzing.parser(__doc__, "fuzz_readers")
    parser.add_argument("--formats", nargs="+", default=formats.FORMATS)
    parser.add_argument("--start", choices=["fork", "fresh"], default="fork", help="of the child processes")
    options = parser.parse_args()
    # A stray numerical warning in this package counts as an error too.
    warnings.simplefilter("error")
    # As a large file is read: a text in blocks first, and cell by cell where that is refused.
    regular.FEWEST_BYTES, regular.FEWEST_IMPORTED, regular.BLOCK = 0, 0, 500
    start, results, server = time.perf_counter(), {}, ForkServer()
    if options.start == "fork":
        child.subprocess = server
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.formats:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                valid = write_valid(Path(folder), kind)
            results[kind] = fuzz(kind, valid, options.mutations, options.seed)
            print(kind, json.dumps(results[kind]), flush=True)
    server.close()
    wall_s = round(time.perf_counter() - start, 1)
    found = {"wall_s": wall_s, "samples": SAMPLES, "start": options.start, "formats": results}
    return fuzzing.finish(options, found, results.values())


if __name__ == "__main__":
    raise SystemExit(main())

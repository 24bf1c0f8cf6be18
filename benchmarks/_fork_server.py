"""Run the readers' worker in a fork of a process that has already loaded its libraries.

A new Python process for each of thousands of damaged files would take hours. The fork runs the same
function with the same limits, and its crash or hang is visible from outside like that of a new process.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

LIBRARIES = ("scipy.io.matlab", "h5py", "fastparquet", "openpyxl")


class ForkServer:
    """A replacement of the `subprocess` module for the readers' worker; one server per thread."""

    TimeoutExpired = subprocess.TimeoutExpired
    CompletedProcess = subprocess.CompletedProcess

    def __init__(self):
        self._local = threading.local()
        self._all: list[subprocess.Popen] = []

    def _server(self, worker: str) -> subprocess.Popen:
        if not hasattr(self._local, "server"):
            command = [sys.executable, "-P", __file__, worker]
            env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            pipe = subprocess.PIPE
            self._local.server = subprocess.Popen(command, env=env, text=True, stdin=pipe, stdout=pipe)
            self._all.append(self._local.server)
        return self._local.server

    def run(self, command: list[str], *, input: bytes, timeout: float, **_) -> subprocess.CompletedProcess:
        """Outcome of the worker as `subprocess.run` would report it."""
        *_, worker, kind, path, folder = command
        server = self._server(worker)
        assert server.stdin is not None and server.stdout is not None
        request = {"arguments": [kind, path, folder], "names": input.decode(), "seconds": timeout}
        print(json.dumps(request), file=server.stdin, flush=True)
        code = json.loads(server.stdout.readline())
        if code is None:
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, code, b"", (Path(folder) / "stderr").read_bytes())

    def close(self) -> None:
        """End the servers."""
        for server in self._all:
            assert server.stdin is not None
            server.stdin.close()
            server.wait()


def serve(worker_path: str) -> None:
    """Answer each line on stdin with the exit code of one fork, or null if it was killed."""
    for name in LIBRARIES:
        importlib.import_module(name)
    spec = importlib.util.spec_from_file_location("worker", worker_path)
    assert spec is not None and spec.loader is not None
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _work(worker, request)
        print(json.dumps(_wait(child, request["seconds"])), flush=True)


def _work(worker, request: dict) -> None:
    code = 1
    try:
        with open(os.path.join(request["arguments"][2], "stderr"), "wb") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        sys.stdin = io.StringIO(request["names"])
        worker.main(*request["arguments"])
        code = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def _wait(child: int, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


if __name__ == "__main__":
    serve(sys.argv[1])

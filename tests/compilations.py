"""Count the programs that JAX compiles, so that tests can ask for none."""

import contextlib
from collections.abc import Iterator

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"
"""JAX records it for every program that is not in memory, whether compiled or read from the persistent cache."""

_counters: list[list[str]] = []


def _listen(event: str, duration_secs: float, **about: str | int) -> None:
    if event == _EVENT:
        for names in _counters:
            names.append(str(about.get("fun_name", "?")))


# Once a process: JAX has no public way to take one listener away again.
jax.monitoring.register_event_duration_secs_listener(_listen)


@contextlib.contextmanager
def count_compilations() -> Iterator[list[str]]:
    """Give a list that holds, at the end of the block, the name of each program compiled within."""
    names: list[str] = []
    _counters.append(names)
    try:
        yield names
    finally:
        _counters[:] = [other for other in _counters if other is not names]

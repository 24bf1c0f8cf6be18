"""Ctrl-C and a request to terminate, handled between compiled calls so that nothing is lost."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Request:
    """`reason`: why the training should end, "" while it need not."""

    reason = ""


@contextmanager
def stop_requests() -> Iterator[Request]:
    """Turn the first SIGINT or SIGTERM into a request.

    A second Ctrl-C raises `KeyboardInterrupt` at once. A SIGTERM takes its usual effect when the block is left.
    Only the main thread receives signals.
    """
    request = Request()

    def received(number, frame):
        if request.reason == "interrupted" and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.reason = "interrupted" if number == signal.SIGINT else "terminated"

    before = {}
    with suppress(ValueError):  # not the main thread
        before = {number: signal.signal(number, received) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if request.reason == "terminated":
        signal.raise_signal(signal.SIGTERM)

"""A loop's form with every signal that enters or leaves it, by name, for proofs between any two of them."""

import abc
from collections.abc import Mapping
from typing import NamedTuple

from .errors import InvalidModelError
from .lft import LFT
from .system import System

PLANT_INPUT = "plant input"
"""Of outputs the control that reaches the plant, of inputs what is added to it after that: where a model error is connected."""


class Ports(NamedTuple):
    """The form of a loop between all its named signals.

    **Arguments:**

    - `form`: from all inputs to all outputs.
    - `inputs`: columns of each input by name.
    - `outputs`: rows of each output by name.
    """

    form: LFT
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]

    def between(self, source: str, target: str) -> LFT:
        """Return the form from one input to one output.

        **Raises:** `InvalidModelError` for a name that the loop does not have.
        """
        columns, rows = (
            list(chosen(self.inputs, source, "input")),
            list(chosen(self.outputs, target, "output")),
        )
        form = self.form
        return form._replace(
            B2=form.B2[:, columns], D12=form.D12[:, columns], C2=form.C2[rows], D21=form.D21[rows],
            D22=form.D22[rows][:, columns],
        )  # fmt: skip


class Loop(System):
    """A system with named signals, between which `rc.certify` proves gains."""

    @abc.abstractmethod
    def ports(self) -> Ports | None:
        """Return the form between all named signals; None where the loop has no form."""


def chosen(known: dict[str, tuple[int, ...]], name: str, kind: str) -> tuple[int, ...]:
    """Return the positions of a signal.

    **Arguments:**

    - `known`: positions by name.
    - `name`: the signal's.
    - `kind`: what the message calls it, input or output.

    **Raises:** `InvalidModelError` with the names that there are, for another one.
    """
    if name not in known:
        there = [other for other in known if not other.startswith(PLANT_INPUT)]
        raise InvalidModelError(f"the {kind} must be a signal of the loop, {there}, got {name!r}")
    return known[name]


def named(
    widths: dict[str, int], channels: Mapping[str, tuple[str, ...] | None]
) -> dict[str, tuple[int, ...]]:
    """Return the positions of consecutive signals, and of their channels as `y[0]` and by their own names.

    **Arguments:**

    - `widths`: number of channels of each signal, in order; signals without channels are left out.
    - `channels`: names of a signal's channels, where they are known.
    """
    found, start = {}, 0
    for name, width in widths.items():
        if width:
            found[name] = tuple(range(start, start + width))
        start += width
    single = {f"{name}[{k}]": (i,) for name, whole in found.items() for k, i in enumerate(whole)}
    own = {
        channel: (i,)
        for name, names in channels.items()
        for channel, i in zip(names or (), found.get(name, ()), strict=False)
    }
    # A channel that has the name of a signal is meant by its position alone.
    return found | {name: at for name, at in (own | single).items() if name not in found}

"""What may describe itself for a proof, and which subclasses no longer may."""

import inspect
from typing import Any

import equinox as eqx

from .lft import LFT


class Unknown:
    """A class attribute that is None until a subclass has a field or property of its name."""

    def __get__(self, instance, owner=None) -> Any:
        """Return None for an instance; the class itself has no such attribute, so that dataclasses see no default."""
        if instance is None:
            raise AttributeError("unknown until a subclass defines it")
        return None


class Certifiable(eqx.Module):
    """A map or system that may describe itself for a proof.

    A subclass that overrides any inherited method, in its own body or through a mixin, no longer computes what its parents'
    `lft()`, `modes()` and `output_limits()` describe. It inherits none of them: it makes no claim until it defines `lft()` itself.
    """

    def __init_subclass__(cls, **kwargs):
        """Discard an inherited description where the class overrides what it describes."""
        super().__init_subclass__(**kwargs)
        # A class that defines one of them itself vouches for it; the definition at the bottom makes no claim.
        for name in ("lft", "modes", "output_limits"):
            defining = [base for base in cls.__mro__ if name in vars(base)]
            if name in vars(cls) or len(defining) < 2 or not _overrides(cls, defining[0]):
                continue
            setattr(cls, name, getattr(defining[-1], name))
            if name == "lft":
                cls.claim = None  # pyright: ignore[reportAttributeAccessIssue]

    def lft(self) -> LFT | None:
        """Return what is known of it for a proof, in float64; None where nothing is."""
        return None

    def check_parts(self) -> None:
        """Refuse parts, as a file may hold them, that do not fit each other; only shapes are computed. Default: nothing is checked.

        **Raises:** `ValueError`.
        """


_HARMLESS = {
    "check_parts", "claim", "undisturbed", "one_sample", "nu", "ny", "references", "dt", "inputs", "outputs", "states",
    "input_units", "output_units", "input_limits", "output_limits", "actuator_limits",
    "trained_ranges",
}  # fmt: skip
"""What a subclass may redefine without changing what its parents compute."""

_DECIDES = {"__call__", "__getattribute__", "__getattr__"}
"""The special methods that decide what a class computes; constructors and representations compute nothing."""


def _overrides(cls: type, owner: type) -> bool:
    """Return whether a class redefines a method or property that `owner`, the class of its description, relies on.

    Any value counts, a compiled function or a field that hides a method included, and so does a class that multiple
    inheritance puts between the owner and its parents.
    """
    known = [base for base in owner.__mro__ if base is not object]
    for added in cls.__mro__:
        if added in owner.__mro__:
            continue
        for name in {*vars(added), *inspect.get_annotations(added)} - _HARMLESS:
            special = name.startswith("__") and name not in _DECIDES
            # Fields and helpers that no parent has decide nothing that a parent's description covers.
            if not special and any(_is_behavior(vars(base).get(name)) for base in known):
                return True
    return False


def _is_behavior(value: Any) -> bool:
    return callable(value) or hasattr(type(value), "__get__")

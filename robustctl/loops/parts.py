"""What systems made of systems share: attributes read from a part, and the forms of parts."""

from operator import attrgetter
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from ..errors import InvalidModelError
from ..lft import LFT
from ..system import Unknown, form_of


class Of(Unknown):
    """A class attribute that is an attribute of one of the system's parts, by default of the same name.

    **Arguments:**

    - `part`: name of the field that holds the part.
    - `name`: name of the part's attribute; default this attribute's own.
    """

    def __init__(self, part: str, name: str = ""):
        self.part, self.name = part, name

    def __set_name__(self, owner, name: str):
        """Take the attribute's own name where none was given."""
        self.name = self.name or name

    def __get__(self, instance, owner=None):
        """Return the part's attribute."""
        if instance is None:
            return super().__get__(instance, owner)
        return attrgetter(f"{self.part}.{self.name}")(instance)


class FirstKnown(Unknown):
    """A class attribute that is the same attribute of the first of the system's parts that knows it; None where no part does.

    **Arguments:**

    - `parts`: names of the fields that hold the parts.
    """

    def __init__(self, *parts: str):
        self.parts, self.name = parts, ""

    def __set_name__(self, owner, name: str):
        """Take the attribute's own name."""
        self.name = name

    def __get__(self, instance, owner=None):
        """Return the first part's attribute that is not None."""
        if instance is None:
            return super().__get__(instance, owner)
        known = (attrgetter(f"{part}.{self.name}")(instance) for part in self.parts)
        return next((value for value in known if value is not None), None)


def with_references(
    names: tuple[str, ...] | None, count: int | None, reference: str = "r[{}]"
) -> tuple[str, ...] | None:
    """Return the names of `count` signals `[y, r]` where those of y are known; None where names or count are not."""
    if names is None or count is None:
        return None
    return (*names, *(reference.format(k) for k in range(count - len(names))))


def control_of(u0: Any, nu: int, dtype: Any) -> Array:
    """Return a constant control (nu,), zero where none is given, or raise `InvalidModelError` for another shape."""
    found = jnp.zeros(nu, dtype) if u0 is None else jnp.asarray(u0, dtype)
    if found.shape != (nu,):
        raise InvalidModelError(f"u0 must have the shape {(nu,)}, got {found.shape}")
    return found


def narrowed(form: LFT, nu: int) -> LFT:
    """Return a form with its first `nu` inputs alone: the others are constant, so that they drop out of differences."""
    return form._replace(B2=form.B2[:, :nu], D12=form.D12[:, :nu], D22=form.D22[:, :nu])


def forms(*parts: Any) -> list[LFT] | None:
    """Return the parts' forms, None where one of them has none: then nothing is known of the whole."""
    found = [form_of(part) for part in parts]
    known = [form for form in found if form is not None]
    return known if len(known) == len(found) else None

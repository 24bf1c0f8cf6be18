"""The classes that a model file may hold, by the name that the file stores."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from .errors import InvalidModelError

_C = TypeVar("_C", bound=type)
Sizes = Callable[[Any], dict[str, Any]]
"""From a model to the arguments of its constructor that its arrays' shapes follow from."""


class Registered(NamedTuple):
    """A class that a file may hold.

    **Arguments:**

    - `cls`: the class.
    - `sizes`: the sizes of its constructor, None where annotations or its parts have them.
    - `null`: by field, the number that is stored as null.
    """

    cls: type
    sizes: Sizes | None
    null: Mapping[str, float]


CLASSES: dict[str, Registered] = {}


def registered(
    *, sizes: Sizes | None = None, name: str | None = None, null: Mapping[str, float] | None = None
) -> Callable[[_C], _C]:
    """Register a class, so that `rc.save` and `rc.load` take it as a model or as a part of one.

    `load` compares every array of a file with the field's annotation, `Float[Array, "nx nu"]`, where it has one.

    **Arguments:**

    - `sizes`: from a model to the arguments, `key` apart, that build one of the same shapes; `load` compares every
      array of a file with the shapes that the constructor gives. None where annotations, or parts with theirs, give the shapes.
    - `name`: what files call the class; default its own name. It must stay the same for old files to be read.
    - `null`: by field, the number that a file stores as null: an infinite limit, which JSON does not have.

    **Raises:** `InvalidModelError` for a name that another class has.

    **Example:** ::

        @rc.registered(name="example.Lags", sizes=lambda model: {"nx": model.a.size})
        class Lags(rc.Parameterization):
            a: jax.Array

            def __init__(self, nx, *, key):
                self.a = jax.random.uniform(key, (nx,))

            def explicit(self):
                A, I = jnp.diag(self.a), jnp.eye(self.a.size)
                return rc.StateSpace(A, I, I, 0 * I, dt=0.1)

        rc.save("lags.safetensors", Lags(2, key=jax.random.key(0)))
    """

    def register(cls: _C) -> _C:
        key = name or cls.__name__
        other = CLASSES.get(key)
        # A notebook cell that runs twice defines the class again.
        if other is not None and (other.cls.__module__, other.cls.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise InvalidModelError(
                f"a model file must distinguish classes by name, and {key!r} is {other.cls.__module__}.{other.cls.__qualname__} "
                "already; give registered(name=...) another name"
            )
        CLASSES[key] = Registered(cls, sizes, null or {})
        return cls

    return register


def name_of(cls: type) -> str | None:
    """Return the name that files have for a class, None where it is not registered."""
    return next((name for name, entry in CLASSES.items() if entry.cls is cls), None)

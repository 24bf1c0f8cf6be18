"""The checks of annotations at run time are made, with shapes and without."""

import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float, TypeCheckError

import robustctl as rc

from .type_checks import checked, has_shape


def product(a: Float[Array, "n m"], b: Float[Array, " m"]) -> Float[Array, " n"]:
    return a @ b if a.shape != (1, 1) else jnp.zeros(2)


def halves(count: int, of: "list[str] | None" = None) -> int:
    return count / 2  # pyright: ignore[reportReturnType]


def unknown(a: "NotThere", b: int) -> None:  # pyright: ignore
    pass


def test_shapes_are_checked_across_arguments_and_of_the_result():
    run = checked(product)
    assert run(jnp.ones((2, 3)), jnp.ones(3)).shape == (2,)
    for a, b in (
        (jnp.ones((2, 3)), jnp.ones(2)),
        (jnp.ones(2), jnp.ones(2)),
        (jnp.ones((1, 1)), jnp.ones(1)),
    ):
        with pytest.raises(TypeCheckError):
            run(a, b)


def test_types_are_checked_of_arguments_and_result_where_nothing_has_a_shape():
    for count, of in ((2.0, None), (2, [3]), (2, None)):
        with pytest.raises(TypeCheckError, match="halves"):
            checked(halves)(count, of)
    with pytest.raises(TypeCheckError):
        checked(unknown)(3, "no number")


def test_an_annotation_has_a_shape_however_deep_it_is():
    inside = Float[Array, " n"]
    assert all(map(has_shape, (inside, list[inside], dict[str, tuple[inside, ...]])))
    assert not any(map(has_shape, (int, str | None, dict[str, list[int]], Array)))


def test_the_rooms_were_imported_with_checks():
    with pytest.raises(TypeCheckError):
        rc.train.lipschitz_optimum(jnp.ones((2, 1)), jnp.ones((2, 1)), gamma="wide")  # pyright: ignore

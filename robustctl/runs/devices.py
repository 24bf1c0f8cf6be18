"""The experiments or episodes of a batch spread over devices, which several processes may share."""

import hashlib
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from ..checks import check_whole
from ..errors import RobustctlError
from ..pytrees import is_key, traced

AXIS = "batch"


def mesh_of(devices: int, sizes: dict[str, int]) -> Mesh | None:
    """Return the first `devices` devices as a mesh with the one axis "batch"; None for a single device.

    `sizes`: by name, what is to be spread over them. With several processes each must take part with all it has;
    with `devices=1` each trains for itself.

    **Raises:** `RobustctlError` for devices that are no whole number, that do not divide a size, that are more than
    there are, or that leave out some of several processes.
    """
    check_whole(1, devices=devices)
    for name, size in sizes.items():
        if size % devices:
            raise RobustctlError(
                f"{name} must be a multiple of the {devices} devices that it is spread over, got {size}; "
                "change the one or the other"
            )
    if devices == 1:
        return None
    _check_exist(devices)
    return Mesh(np.array(jax.devices()[:devices]), (AXIS,))


def _check_exist(devices: int) -> None:
    there = len(jax.devices())
    if devices > there:
        more = (
            f"; more of them on a CPU: set XLA_FLAGS=--xla_force_host_platform_device_count={devices} before Python starts"
            if jax.default_backend() == "cpu"
            else ""
        )
        raise RobustctlError(f"devices must be at most the {there} of jax.devices(), got {devices}{more}")
    if jax.process_count() > 1 and devices < there:
        raise RobustctlError(
            f"{jax.process_count()} processes must train on all {there} devices of jax.devices(), got devices={devices}; "
            "give devices=len(jax.devices())"
        )


def spread(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Split the arrays of a tree along their first axis over the mesh, inside a compiled function or outside of it."""
    return tree if mesh is None else _put(tree, NamedSharding(mesh, PartitionSpec(AXIS)))


def replicate(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Put the arrays of a tree on every device of the mesh, inside a compiled function or outside of it."""
    return tree if mesh is None else _put(tree, NamedSharding(mesh, PartitionSpec()))


def for_each(
    fn: Callable, mesh: Mesh | None, shared: PyTree, *batched: PyTree, over: Callable = jax.vmap
) -> PyTree:
    """Return `fn(shared, *one)` for each element `one` of `batched`, each device with its own part of the batch.

    `over`: maps a function over the elements of a part. The compiler would also spread a `jax.vmap`, but gather at each
    sample the arrays that a backward pass stacks.
    """
    arrays, rest = eqx.partition(shared, eqx.is_array)

    def part(arrays: PyTree, *batched: PyTree) -> PyTree:
        whole = eqx.combine(arrays, rest)
        return over(lambda *one: fn(whole, *one))(*batched)

    if mesh is None:
        return part(arrays, *batched)
    specs = (PartitionSpec(), *(PartitionSpec(AXIS) for _ in batched))
    spread_out = jax.shard_map(
        part, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(AXIS), check_vma=False
    )
    return spread_out(arrays, *batched)


def one_by_one(fn: Callable) -> Callable:
    """Map a function over the first axis of its arguments, as `jax.vmap` does, one element after the other."""
    return lambda *batched: lax.map(lambda one: fn(*one), batched)


def _put(tree: PyTree, sharding: NamedSharding) -> PyTree:
    arrays, rest = eqx.partition(tree, eqx.is_array)
    placed = jax.tree.map(lambda a: lax.with_sharding_constraint(_free(a), sharding), arrays)
    return eqx.combine(placed, rest)


def _free(a):
    """The array as one that may be put anywhere: one committed to a device may not go to those of other processes."""
    if traced(a):
        return a
    if is_key(a):
        bits = np.asarray(jax.random.key_data(a))
        return jax.random.wrap_key_data(jnp.asarray(bits), impl=jax.random.key_impl(a))
    return np.asarray(a)


def local(tree: PyTree) -> PyTree:
    """Return this process's copy of arrays that are the same on every device; on a single device, the arrays."""
    return jax.tree.map(lambda a: a.addressable_data(0) if len(a.sharding.device_set) > 1 else a, tree)


def several(mesh: Mesh | None) -> bool:
    """Whether several processes train together, so that all must make the same compiled calls."""
    return mesh is not None and jax.process_count() > 1


def writes(mesh: Mesh | None) -> bool:
    """Whether this process is the one that writes files and the progress line."""
    return not several(mesh) or jax.process_index() == 0


def gathered(number: int, mesh: Mesh | None) -> list[int]:
    """Return the number that each process has, the first process's first."""
    if not several(mesh):
        return [number]
    return multihost_utils.process_allgather(np.asarray(number, np.int32)).tolist()


def check_same(mesh: Mesh | None, *texts: str) -> None:
    """Raise `RobustctlError` in every process unless all have the same texts."""
    digest = hashlib.sha256("\n".join(texts).encode()).digest()
    found = set(gathered(int.from_bytes(digest[:4], "big") >> 1, mesh))
    if len(found) > 1:
        raise RobustctlError(
            f"every process must train the same model with the same data, key and settings, got {len(found)} different "
            "trainings; build them alike in every process, and draw from the same keys"
        )

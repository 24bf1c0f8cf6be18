"""The first verb: run a system over a sequence."""

import equinox as eqx
import jax
from jax import lax
from jaxtyping import PyTree

from .errors import RobustctlError
from .parallel.in_time import parallel_rollout, worthwhile
from .system import Parameterization, System, Trajectory


@eqx.filter_jit
@jax.named_scope("robustctl.rollout")
def rollout(
    system: System, us: PyTree, x0: PyTree = None, *, checkpoint: int | None = None, method: str = "scan"
) -> Trajectory:
    """Run a system from `x0` over the inputs `us` and return its `Trajectory`.

    ::

        x[t+1], y[t] = system.step(x[t], us[t]),    t = 0 .. T-1

    One compiled scan, differentiable in the system's arrays, the inputs and `x0`. For a batch use
    `jax.vmap(lambda u: rollout(system, u))(us)`. The gradient of an R2DN stores only its states; it is reverse mode,
    and forward mode (`jax.jvp`, `jax.jacfwd`) requires `checkpoint=1`.

    **Arguments:**

    - `system`: the system.
    - `us`: `(T, nu)`, or a pytree of arrays with a leading time axis.
    - `x0`: the initial state, `system.init_state()` where None.
    - `checkpoint`: with a number of samples n, gradients store only every nth state and recompute the others, which
      takes memory for T/n + n samples in place of T.
    - `method`: "scan"; "parallel", which solves for all samples of an R2DN at once (`rc.parallel`), for long
      sequences and small batches where few iterations suffice; or "auto", which chooses "parallel" for a long sequence
      on an accelerator.

    **Raises:** `RobustctlError` for a parameterization (call its `explicit()`), inputs without a time axis
    or of the wrong width, sequences of different lengths, a `checkpoint` below 1, and a method that is unknown or
    does not support the system.

    **Example:** ::

        model = rc.nn.ContractingR2DN(nu=1, nx=2, nv=4, ny=1, key=jax.random.key(0))
        ys = rc.rollout(model.explicit(), jnp.ones((100, 1))).ys
    """
    length = _check(system, us, checkpoint, method)
    x0 = system.init_state() if x0 is None else x0
    _check_step(system, x0, us)

    if method == "parallel" or (method == "auto" and worthwhile(system, length)):
        return parallel_rollout(system, us, x0)[0]
    prepared = system.prepare()
    if checkpoint is None:
        return Trajectory(*prepared.scan(x0, us))

    def body(x, u):
        x_next, y = prepared.step(x, u)
        return x_next, (x, y)

    if checkpoint == 1:
        body = jax.checkpoint(body, prevent_cse=False)  # a scan needs no barrier against merging
    if checkpoint == 1 or checkpoint >= length:
        x_final, (xs, ys) = lax.scan(body, x0, us)
        return Trajectory(xs, ys, x_final)

    # Whole blocks first, then the samples that are left over.
    whole = length // checkpoint * checkpoint
    blocks = jax.tree.map(lambda a: a[:whole].reshape(whole // checkpoint, checkpoint, *a.shape[1:]), us)
    rest = jax.tree.map(lambda a: a[whole:], us)
    x_rest, head = lax.scan(jax.checkpoint(lambda x, u: lax.scan(body, x, u), prevent_cse=False), x0, blocks)
    x_final, tail = lax.scan(body, x_rest, rest)
    xs, ys = jax.tree.map(lambda h, t: jax.numpy.concatenate([h.reshape(whole, *h.shape[2:]), t]), head, tail)
    return Trajectory(xs, ys, x_final)


def _check(system, us, checkpoint, method) -> int:
    if isinstance(system, Parameterization):
        raise RobustctlError(
            "rollout needs a system, got a parameterization; call its explicit() once and roll that out"
        )
    if checkpoint is not None and checkpoint < 1:
        raise RobustctlError(f"checkpoint must be a number of samples of at least 1, got {checkpoint}")
    if method not in ("scan", "parallel", "auto") or (method != "scan" and checkpoint is not None):
        raise RobustctlError(
            f"method must be scan, parallel or auto, and only the scan has checkpoints, got {method!r} and checkpoint = {checkpoint}"
        )
    shapes = [jax.numpy.shape(leaf) for leaf in jax.tree.leaves(us)]
    if not shapes or any(len(shape) == 0 for shape in shapes):
        raise RobustctlError(
            "us must have a leading time axis, got a scalar or nothing; give an array (T, nu)"
        )
    lengths = {shape[0] for shape in shapes}
    if len(lengths) > 1:
        raise RobustctlError(f"all inputs must have the same number of samples, got {sorted(lengths)}")
    return lengths.pop()


def _check_step(system, x0, us) -> None:
    """Find mismatched shapes before the scan, whose own message would not name the argument."""
    u = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), us)
    try:
        x_next, _ = eqx.filter_eval_shape(system.step, x0, u)
    except Exception as error:
        shape = jax.tree.map(jax.numpy.shape, (x0, us))
        raise RobustctlError(
            f"the state and one sample of us must fit system.step, got shapes (x0, us) = {shape}; us is time "
            f"first, (T, nu), and a batch goes through jax.vmap. The step raised: {error}"
        ) from error
    given, got = (
        jax.tree.map(lambda a: (a.shape, a.dtype), jax.eval_shape(lambda state: state, x))
        for x in (x0, x_next)
    )
    if given != got:
        raise RobustctlError(f"x0 must have the shapes and dtypes of the system's state, {got}, got {given}")

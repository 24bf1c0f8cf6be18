"""The largest gain of a learned system with which a loop about an imperfect model is proven to be stable."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from typing_extensions import override

from ..errors import RobustctlError
from ..lft import LFT, Bounded, block_form
from ..ports import Ports
from ..system import StrictlyProper, System
from .coordinates import opened
from .dissipation import NotDescribedError
from .loop_gains import ports_of
from .model_error import ModelError, as_errors, with_errors
from .progress import deadline_after
from .proof import Proof
from .prove import fault_of, least_gain

if TYPE_CHECKING:  # importing plants and loops is slow
    from ..loops import Base

LEARNED = "the learned system"

ROUNDING = 1e-6
"""Relative part of the largest gain that is left to rounding: the proof is of the inverse, accepted with its own rounding."""


class Unknown(System):
    """A system of which nothing but its sizes is known, in a form by which proofs leave it open.

    **Arguments:**

    - `nu`: number of inputs.
    - `ny`: number of outputs.
    """

    nu: int = eqx.field(static=True)
    ny: int = eqx.field(static=True)

    @override
    def lft(self) -> LFT:
        """Return the form with the system as a block."""
        return block_form(Bounded(self.nu, self.ny, 1.0, reason=LEARNED))

    @override
    def init_state(self) -> tuple[()]:
        return ()

    @override
    def step(self, x: tuple[()], u) -> tuple[tuple[()], jnp.ndarray]:
        return x, jnp.zeros(self.ny)


class AllowedGamma(NamedTuple):
    """The largest incremental gain of a learned system with which a loop is proven to be stable.

    **Arguments:**

    - `gamma`: the gain; infinite where what q reads does not depend on q, 0 where nothing is proven.
    - `proof`: of the gain 1 / gamma from q's output to its input in the loop without q; None where there is none.
    - `reason`: why nothing is proven, in words, otherwise "".
    """

    gamma: float
    proof: Proof | None
    reason: str


def allowed_gamma(
    plant: StrictlyProper, base: "Base", error: ModelError | Sequence[ModelError] | None = None, *, references: int = 0,
    seconds: float = 60.0,
) -> AllowedGamma:  # fmt: skip
    """Return the largest gain of Youla's q with which a loop is proven stable, for every plant within a model error.

    ::

        gamma = 1 / g,     g the least proven gain from q's output to the innovation y - y_hat, for all |dp| <= gain |d(W u)|

    By the incremental small-gain theorem. Without a model error q is free, because the innovation does not depend on it. A q of a
    smaller gain, for example a `LipschitzR2DN`, leaves a loop that `rc.certify` with the same error proves, as tightly or more so.

    **Arguments:**

    - `plant`: `rc.loops.ModelPlant` or `rc.plants.Sampled`, with a form.
    - `base`: the base controller, for example `rc.loops.ParallelModel`.
    - `error`: by what the plant differs, a `ModelError` or several.
    - `references`: number of references that q reads besides the innovation.
    - `seconds`: time limit of the search.

    **Raises:** `RobustctlError` for seconds that are not positive, an error that does not fit the loop, and a base whose form is unknown.

    **Example:** ::

        lag = rc.loops.ModelPlant(rc.StateSpace([[0.9]], [[0.1]], [[1.0]], [[0.0]], dt=0.1))
        error = rc.certificates.ModelError(gain=0.2, at="output")
        print(rc.certificates.allowed_gamma(lag, rc.loops.ParallelModel(lag), error).gamma)
    """
    deadline = deadline_after(seconds)
    errors = as_errors(error)
    loop = _loop_with_unknown(plant, base, references)
    try:
        ports = ports_of(loop)
    except NotDescribedError as fault:
        raise RobustctlError(f"plant and base must have forms, but {fault}") from fault
    for one in errors:
        one.check_sample_time(loop.dt)
    whole = with_errors(_freed(ports), errors)
    form = opened(whole.between("from q", "to q"))
    if fault := fault_of(form):
        return AllowedGamma(0.0, None, fault)
    form = _acting(_differences(form, plant))
    if not any(M.any() for M in (form.C2, form.D21, form.D22)):
        return AllowedGamma(np.inf, None, "")
    found = least_gain(form, deadline)
    if found.proof is None:
        return AllowedGamma(0.0, None, found.reason)
    return AllowedGamma((1 - ROUNDING) / found.proof.value, found.proof, "")


def _loop_with_unknown(plant: StrictlyProper, base: "Base", references: int) -> System:
    from ..loops import Youla, feedback  # slow to import

    return feedback(plant, Youla(base, Unknown(base.ny + references, base.nu)))


def _freed(ports: Ports) -> Ports:
    """Return the ports with the signals of the unknown block as an input and an output."""
    form = ports.form
    k = next(k for k, block in enumerate(form.blocks) if block.reason == LEARNED)
    v, w = sum(block.nv for block in form.blocks[:k]), sum(block.nw for block in form.blocks[:k])
    rows, columns = v + np.arange(form.blocks[k].nv), w + np.arange(form.blocks[k].nw)
    others_v, others_w = (
        np.delete(np.arange(len(form.C1)), rows),
        np.delete(np.arange(form.B1.shape[1]), columns),
    )
    free = LFT(
        form.A, form.B1[:, others_w], np.hstack([form.B2, form.B1[:, columns]]),
        form.C1[others_v], form.D11[others_v][:, others_w], np.hstack([form.D12[others_v], form.D11[others_v][:, columns]]),
        np.vstack([form.C2, form.C1[rows]]), np.vstack([form.D21, form.D11[rows]])[:, others_w],
        np.block([[form.D22, form.D21[:, columns]], [form.D12[rows], form.D11[rows][:, columns]]]),
        form.blocks[:k] + form.blocks[k + 1 :], form.assumptions,
    )  # fmt: skip
    return ports._replace(
        form=free,
        inputs=ports.inputs | {"from q": tuple(range(form.nu, free.nu))},
        outputs=ports.outputs | {"to q": tuple(range(form.ny, free.ny))},
    )


def _differences(form: LFT, plant: StrictlyProper) -> LFT:
    """Return a form with the base's copy of the plant's states replaced by its difference from them, where there is such a copy.

    A model in parallel has the plant's matrices and its control, so that the differences of equal entries are exactly zero.
    """
    known = plant.lft()
    n = 0 if known is None else known.nx
    first, second = slice(0, n), slice(n, 2 * n)
    if form.nx < 2 * n or not np.array_equal(form.A[first, first], form.A[second, second]):
        return form
    T = np.eye(form.nx)
    T[second, first], T[second, second] = np.eye(n), -np.eye(n)
    # T is its own inverse.
    return form._replace(A=T @ form.A @ T, B1=T @ form.B1, B2=T @ form.B2, C1=form.C1 @ T, C2=form.C2 @ T)


def _acting(form: LFT) -> LFT:
    """Return a form without the states that no input or block moves, and those that act on no output or block, by their exact zeros.

    From equal starts they change nothing between input and output. Those left out are stable, as all of A is.
    """
    moved = _reached(form.A != 0, np.any(np.hstack([form.B1, form.B2]) != 0, axis=1))
    acts = _reached((form.A != 0).T, np.any(np.vstack([form.C1, form.C2]) != 0, axis=0))
    keep = np.flatnonzero(moved & acts)
    return form._replace(
        A=form.A[np.ix_(keep, keep)],
        B1=form.B1[keep],
        B2=form.B2[keep],
        C1=form.C1[:, keep],
        C2=form.C2[:, keep],
    )


def _reached(arrows: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return which states can be reached from those in `start`, with an arrow from k to i where `arrows[i, k]`."""
    found = start
    for _ in range(len(start)):
        found = found | np.any(arrows & found, axis=1)
    return found

"""How often a guarded controller passed, changed and replaced its control, over many episodes with large disturbances."""

import dataclasses
import os
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax
from jaxtyping import Array, PRNGKeyArray
from typing_extensions import override

from ..checks import are_all, check_whole, is_whole, of_type
from ..errors import RobustctlError
from ..plants import Sampled, Task, draw
from ..store.entries import entry
from ..store.json_text import parse_object, write_json
from ..trajectory import rollout
from .barrier import StateLimits
from .feedback import Feedback
from .guarded import Guarded, Outcome, Reason

FORMAT = 1
FIRST = 100
"""Episodes whose counts are stored separately, so that a check takes seconds."""
_BATCH = 100
_ROUNDING = 1e-6
"""Share of a limit by which a state in float32 may exceed it without breaking it."""
_COUNTS = {**{o.name.lower(): o for o in Outcome}, **{r.name.lower(): r for r in Reason if r != Reason.NONE}}


@dataclasses.dataclass(frozen=True)
class GuardCoverage:
    """What `guard_coverage` counted; `save` it as JSON, and `read` it back.

    **Arguments:**

    - `episodes`: number of episodes.
    - `samples`: of each episode.
    - `seed`: of the disturbances.
    - `size`: largest absolute value of each disturbance (nd,).
    - `counts`: samples by outcome (`passed`, `changed`, `fallback`), and fallback samples by `Reason` in lower case.
    - `first`: samples passed, changed and fallback of the first episodes, at most 100, which `differs` counts again.
    - `not_finite`: samples whose control was not finite.
    - `limits`: of the plant's states; None where none were given.
    - `broken`: episodes in which a state broke its limits; None without limits.
    - `lowest`: smallest distance from the limits, negative beyond them; None without limits.
    """

    episodes: int
    samples: int
    seed: int
    size: tuple[float, ...]
    counts: dict[str, int]
    first: tuple[int, int, int]
    not_finite: int
    limits: StateLimits | None = None
    broken: int | None = None
    lowest: float | None = None

    @property
    def total(self) -> int:
        """Number of all samples."""
        return self.episodes * self.samples

    def __str__(self) -> str:
        """Return the counts in lines."""
        shares = [f"{o.name.lower()} {self.counts[o.name.lower()] / self.total:.2%}" for o in Outcome]
        reasons = [
            f"{name.lower()} {self.counts[name.lower()]}"
            for name in Reason.__members__
            if self.counts.get(name.lower())
        ]
        lines = [
            f"guard over {self.episodes} episodes of {self.samples} samples: {', '.join(shares)}",
            *([f"  fallback      {', '.join(reasons)}"] if reasons else []),
            f"  not finite    {self.not_finite} controls",
        ]
        if self.limits is not None:
            lines.append(
                f"  limits        broken in {self.broken} episodes, smallest distance {self.lowest:.4g}"
            )
        return "\n".join(lines)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the counts as JSON, whole or not at all."""
        fields = vars(self) | {"limits": None}
        if self.limits is not None:
            fields["limits"] = {
                "C": np.asarray(self.limits.C).tolist(),
                "limit": np.asarray(self.limits.limit).tolist(),
            }
        write_json(Path(path), {"guard_coverage": FORMAT, **fields})

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "GuardCoverage":
        """Return the counts that `save` wrote.

        **Raises:** `RobustctlError` for a file that cannot be read, is of another format, or whose numbers contradict each other.
        """
        try:
            found = parse_object(Path(path).read_bytes())
        except (OSError, ValueError) as error:
            raise RobustctlError(
                f"guard coverage must be the JSON that save writes, got {path}: {error}"
            ) from error
        if found.get("guard_coverage") != FORMAT:
            raise RobustctlError(
                f"guard coverage must be of format {FORMAT}, got {found.get('guard_coverage')!r:.40}; count again"
            )
        try:
            made = cls(**_fields(found))
        except (TypeError, ValueError, KeyError) as error:
            raise RobustctlError(
                f"guard coverage must be the JSON that save writes, got {error!r:.200}"
            ) from error
        made._check()
        return made

    def _check(self) -> None:
        """Refuse counts that do not add up."""
        outcomes = [self.counts[o.name.lower()] for o in Outcome]
        reasons = sum(self.counts[r.name.lower()] for r in Reason if r != Reason.NONE)
        shown = min(self.episodes, FIRST) * self.samples
        if sum(outcomes) != self.total or reasons != self.counts["fallback"] or sum(self.first) != shown:
            raise RobustctlError(
                f"the counts must add up to {self.total} samples, reasons to the fallback samples and the first episodes to {shown}, got "
                f"{self.counts} and {list(self.first)}; count again"
            )

    def differs(self, loop: Feedback) -> str:
        """Return what a loop counts otherwise in the first episodes, as text, empty where nothing differs.

        **Raises:** as `guard_coverage`.
        """
        again = guard_coverage(
            loop, self.size, episodes=min(self.episodes, FIRST), samples=self.samples, seed=self.seed, limits=self.limits
        )  # fmt: skip
        if again.first == self.first:
            return ""
        return (
            f"the first {again.episodes} episodes must have the recorded {list(self.first)} samples passed, changed and fallback, got "
            f"{list(again.first)}"
        )


def _fields(found: dict[str, Any]) -> dict[str, Any]:
    """Return a coverage's fields from JSON."""
    numbers = ("episodes", "samples", "seed", "not_finite")
    counts = {name: found["counts"][name] for name in _COUNTS}
    if not all(
        is_whole(value, 0) for value in (*(found[n] for n in numbers), *counts.values(), *found["first"])
    ):
        raise ValueError("counts that are no whole numbers of at least 0")
    if not are_all(found["size"], float | int):
        raise ValueError("a size that is no list of numbers")
    given = entry(found, "limits", dict)
    limits = None if given is None else StateLimits(given["C"], given["limit"])
    return {name: found[name] for name in (*numbers, "broken", "lowest")} | {
        "counts": counts, "size": tuple(found["size"]), "first": tuple(found["first"]), "limits": limits,
    }  # fmt: skip


def guard_coverage(
    loop: Feedback, size: Any, *, episodes: int = 10_000, samples: int = 200, limits: StateLimits | None = None, seed: int = 0
) -> GuardCoverage:  # fmt: skip
    """Count what a guarded controller does in episodes with disturbances of the largest assumed size.

    ::

        d[t] = +size or -size,  each entry switched in a sample with a probability drawn for the episode, from 1 to 1 / samples

    so that constant, slow and fast disturbances occur, among them those near a resonance. Each episode begins at the operating point. The
    counts are of a simulation: nothing is proven of other disturbances.

    **Arguments:**

    - `loop`: of `feedback`, about a `Sampled` plant, with a `Guarded` controller.
    - `size`: largest absolute value of each disturbance of the plant (nd,), or one number for all.
    - `episodes`: number of episodes.
    - `samples`: of each episode.
    - `limits`: of the plant's states; the episodes that break them are counted.
    - `seed`: of the disturbances.

    **Raises:** `RobustctlError` for a loop about another plant or without a guard, and for sizes that are not positive or not one for
    each disturbance.

    **Example:** ::

        plant = rc.plants.Sampled(rc.plants.LinearPlant([[-1.0]], [[1.0]], [[1.0]]), 0.1)
        guarded = rc.loops.Guarded(rc.classical.PID(9.0, dt=0.1), rc.loops.Limits([-1.0], [1.0]), rc.classical.PID(1.0, dt=0.1))
        print(rc.loops.guard_coverage(rc.loops.feedback(plant, guarded), 0.5, episodes=20, samples=50))
    """
    plant = of_type(loop.plant, Sampled, "guard coverage needs a loop about a Sampled plant")
    of_type(loop.policy, Guarded, "guard coverage needs a loop with a rc.loops.Guarded controller")
    check_whole(1, episodes=episodes, samples=samples)
    sizes = np.asarray(size, float)
    nd = len(plant.plant.disturbances)
    if nd == 0 or sizes.shape not in ((), (nd,)) or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise RobustctlError(
            f"size must be one positive number, or one for each of the plant's {nd} disturbances, got {size!r}"
        )
    sizes = np.broadcast_to(sizes, (nd,))
    found = jax.tree.map(
        np.asarray, _run(loop, jnp.asarray(sizes, float), jr.key(seed), episodes, samples, limits)
    )
    each = found.outcomes.sum(axis=0)
    outcomes = {o.name.lower(): int(each[o]) for o in Outcome}
    counted = found.reasons.sum(axis=0)
    reasons = {r.name.lower(): int(counted[r]) for r in Reason if r != Reason.NONE}
    passed, changed, fallback = found.outcomes[:FIRST].sum(axis=0).tolist()
    broken, lowest = (None, None) if limits is None else (int(found.broken.sum()), float(found.lowest.min()))
    return GuardCoverage(
        episodes, samples, seed, tuple(sizes.tolist()), outcomes | reasons, (passed, changed, fallback), int(found.not_finite.sum()),
        limits, broken, lowest,
    )  # fmt: skip


class _Switching(Task):
    """Disturbances of full size whose signs switch."""

    size: Array

    @override
    def disturbance(self, key: PRNGKeyArray, samples: int) -> Array:
        often_key, sign_key, switch_key = jr.split(key, 3)
        often = jnp.exp(jr.uniform(often_key, self.size.shape, self.size.dtype, -np.log(samples), 0.0))
        switched = jnp.cumsum(jr.bernoulli(switch_key, often[None], (samples, *self.size.shape)), axis=0)
        negative = (switched % 2 == 1) ^ jr.bernoulli(sign_key, 0.5, self.size.shape)[None]
        return jnp.where(negative, -self.size[None], self.size[None])


class _Counted(NamedTuple):
    """Counts of an episode."""

    outcomes: Array
    reasons: Array
    not_finite: Array
    broken: Array
    lowest: Array


@eqx.filter_jit
def _run(
    loop: Feedback, size: Array, key: PRNGKeyArray, episodes: int, samples: int, limits: StateLimits | None
) -> _Counted:
    plant = of_type(loop.plant, Sampled, "the loop must be about a Sampled plant")
    task = _Switching(plant.plant, size=size)
    references = jnp.zeros((samples, *loop.undisturbed().r.shape), size.dtype)

    def one(k: Array) -> _Counted:
        # A key for each episode by its number: the first ones are the same for any number of them.
        w = draw(task, plant, jr.fold_in(key, k), samples)._replace(r=references)
        run = rollout(loop, w)
        reason = jnp.append(run.xs[1].reason[1:], run.x_final[1].reason)
        reasons = jnp.sum(
            reason[:, None] == jnp.arange(len(Reason), dtype=reason.dtype)[None], axis=0, dtype=jnp.int32
        )
        bad = jnp.sum(~jnp.all(jnp.isfinite(run.ys.u), axis=-1), dtype=jnp.int32)
        if limits is None:
            return _Counted(
                run.x_final[1].counts, reasons, bad, jnp.asarray(False), jnp.zeros((), size.dtype)
            )
        states = jnp.concatenate([run.xs[0].x, run.x_final[0].x[None]])
        h = jax.vmap(limits)(states)
        allowed = -_ROUNDING * (1 + jnp.abs(limits.limit))
        # A state that is not finite is beyond every limit.
        return _Counted(run.x_final[1].counts, reasons, bad, ~jnp.all(h >= allowed[None]), jnp.min(h))

    return lax.map(one, jnp.arange(episodes), batch_size=min(_BATCH, episodes))

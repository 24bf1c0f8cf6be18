"""The third verb: the numbers that prove a guarantee, checked from the explicit matrices alone."""

import dataclasses
import hashlib
import itertools
import json
from typing import Any

import jax
import numpy as np

from ..errors import RobustctlError
from ..nn import InnovationSystem, StaticNetwork
from ..nn.lipschitz import BOUND_ROUNDING
from ..scaled import Scaled
from ..store.json_text import json_text
from ..system import Parameterization, System
from .dissipation import Feedback, as_feedback, positive_definite
from .metric import find_metric

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What is proven of a model, and the numbers that prove it.

    `holds`: whether the claim is proven. `margin`: an upper bound, rounding included, on the largest
    eigenvalue of the dissipation matrix over its largest entry; negative where `holds`. `rate`: the certified
    contraction rate per sample; `rate_found`: the smallest that `P` proves. `gamma`: the certified gain from
    input to output, None without a claim on it; of an identified model in its outputs' unit over its
    inputs'. `supply`: `(Q, S, R)` or None. `phi_bound`: the Lipschitz bound of the network inside. `P`: the
    metric (nx, nx). `reason`: why it does not hold, else empty.
    `model`: the class; `dtype`: of its arrays; `weights_sha256`: of all its arrays.
    """

    holds: bool
    margin: float
    rate: float | None
    rate_found: float | None
    gamma: float | None
    supply: tuple[list, list, list] | None
    phi_bound: float | None
    P: np.ndarray | None
    reason: str
    model: str
    dtype: str
    weights_sha256: str

    def to_json(self) -> str:
        """Return the certificate as JSON text; numbers keep all their digits."""
        fields = dataclasses.asdict(self) | {
            "P": None if self.P is None else self.P.tolist(),
            "format": FORMAT,
        }
        return json_text(fields)

    @classmethod
    def from_json(cls, text: str) -> "Certificate":
        """Return the certificate that `to_json` wrote.

        **Raises:** `RobustctlError` for text that is no certificate or is of another format version.
        """
        try:
            fields = json.loads(text)
            version = fields.pop("format")
            if version != FORMAT:
                raise RobustctlError(
                    f"the certificate must be of format {FORMAT}, got {version}; certify the model again"
                )
            fields["P"] = None if fields["P"] is None else np.asarray(fields["P"], np.float64)
            fields["margin"] = float("inf") if fields["margin"] is None else fields["margin"]
            fields["supply"] = None if fields["supply"] is None else tuple(fields["supply"])
            return cls(**fields)
        except (json.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
            raise RobustctlError(
                f"a certificate must be the JSON that to_json writes, got text that fails with: {error}"
            ) from error

    def __str__(self) -> str:
        """Return a text for people."""
        verdict = "HOLDS" if self.holds else "DOES NOT HOLD"
        lines = [f"certificate of {self.model} ({self.dtype}): {verdict}"]
        if self.reason:
            lines.append(f"  reason        {self.reason}")
        if self.rate is not None:
            lines.append(f"  contraction   V(dx+) <= rate^2 V(dx), rate = {self.rate:.6g} per sample")
        if self.holds and self.rate_found is not None:
            lines.append(f"                this metric proves a rate of {self.rate_found:.6g}")
        if self.gamma is not None:
            lines.append(f"  gain          |dy| <= gamma |du|, gamma = {self.gamma:.6g}")
        if self.phi_bound is not None:
            lines.append(f"  network       Lipschitz bound {self.phi_bound:.8g}")
        if self.P is not None:
            lines.append(
                f"  inequality    largest relative eigenvalue {self.margin:.3g}, rounding included (must be < 0)"
            )
            lines.append(
                f"  metric        P is {len(self.P)} x {len(self.P)}, condition number {np.linalg.cond(self.P):.3g}"
            )
        return "\n".join([*lines, f"  weights       sha256 {self.weights_sha256[:16]}..."])


def certify(model: Parameterization | System) -> Certificate:
    """Check a model's guarantee in float64, trusting nothing but the matrices it steps with and its network.

    The claim (rate, supply rate) is the system's own. The metric is the one that it carries or, where that fails
    (rounded, exported or edited weights), one found again by a Riccati equation. Outside what float64 can
    prove the answer is "does not hold"; a certificate that holds is a proof, rounding included.

    A model without a claim (GRU, LSTM) gets a certificate that does not hold and says so.

    **Raises:** `RobustctlError` for something that is neither a parameterization nor a system.
    """
    system: Any = model.explicit() if isinstance(model, Parameterization) else model
    if not isinstance(system, System):
        raise RobustctlError(
            f"certificate needs a parameterization or a system, got {type(system).__name__}; of what fit returns give .model, "
            "of what fit_policy returns .policy"
        )
    inner = system.system if isinstance(system, Scaled) else system
    name, digest, dtype = type(inner).__name__, weights_sha256(system), _dtype(inner)
    if isinstance(inner, StaticNetwork):
        return _of_static(system, inner, name, dtype, digest)
    if isinstance(inner, InnovationSystem):
        return dataclasses.replace(_of_patterns(inner), model=name, dtype=dtype, weights_sha256=digest)
    f = as_feedback(system)
    if f is None:
        reason = f"{name} makes no claim: nothing about it is guaranteed"
        return Certificate(
            False, float("inf"), None, None, None, None, None, None, reason, name, dtype, digest
        )
    P, found = find_metric(f)
    reason = _why_not(f, found)
    return Certificate(
        holds=not reason, margin=found, rate=f.rate, rate_found=_rate_found(f, P) if not reason else None,
        gamma=_gain(f), supply=None if f.supply is None else tuple(M.tolist() for M in f.supply),
        phi_bound=f.phi_bound, P=P, reason=reason, model=name, dtype=dtype, weights_sha256=digest,
    )  # fmt: skip


def _of_static(system: System, inner: StaticNetwork, name: str, dtype: str, digest: str) -> Certificate:
    """A static map: nothing to forget, and a gain that is the network's bound; its scaling can only be bounded."""
    bound = inner.phi.lipschitz_bound()
    margin = bound * (1 + BOUND_ROUNDING) - 1
    ports = 1.0
    if isinstance(system, Scaled):
        ports = float(np.max(np.abs(np.asarray(system.y_std))) / np.min(np.abs(np.asarray(system.u_std))))
    holds = bool(margin < 0 and np.isfinite(ports))
    return Certificate(
        holds=holds, margin=float(margin), rate=None, rate_found=None, gamma=inner.gamma * ports, supply=None,
        phi_bound=bound, P=None, reason="" if holds else "the network's bound could not be proven to be below one",
        model=name, dtype=dtype, weights_sha256=digest,
    )  # fmt: skip


def _of_patterns(system: InnovationSystem) -> Certificate:
    """The weakest of the certificates under each pattern of seen outputs, which must all share the metric I."""
    patterns = itertools.product((0.0, 1.0), repeat=system.K.shape[1])
    found = [certify(system.under(seen)) for seen in patterns]
    worst = max(found, key=lambda c: c.margin)
    eye = np.eye(system.bx.size)
    if all(c.holds and c.P is not None and np.array_equal(c.P, eye) for c in found):
        return dataclasses.replace(worst, rate_found=max(c.rate_found or 1.0 for c in found))
    reason = worst.reason or "the patterns of lost outputs could not be proven with one metric"
    return dataclasses.replace(worst, holds=False, rate_found=None, reason=reason)


def weights_sha256(system: System) -> str:
    """Return the sha256 of every array of a system: its place, dtype, shape and bytes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(system):
        if isinstance(leaf, jax.Array | np.ndarray):
            array = np.asarray(leaf)
            digest.update(f"{jax.tree_util.keystr(path)} {array.dtype.str} {array.shape};".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _why_not(f: Feedback, found: float) -> str:
    if not all(np.isfinite(M).all() for M in (f.A, f.B1, f.B2, f.C1, f.C2, f.D11, f.D12, f.D21, f.D22)):
        return "the model has weights that are not finite; train again with a smaller step"
    if f.B1.shape[1] and f.phi_bound is None:
        return "phi offers no bound that can be checked; give it a method lipschitz_bound() or use LBDN"
    if not np.isfinite(f.phi_bound or 0.0):
        return "the network inside has no finite Lipschitz bound"
    if f.supply is not None and not positive_definite(-f.supply[0]):
        return "Q of the supply rate must be negative definite for it to bound anything"
    if not found < 0:
        return "the dissipation inequality could not be proven in float64 for this rate and supply rate"
    return ""


def _rate_found(f: Feedback, P: np.ndarray) -> float:
    """Smallest rate for which P proves contraction: the Schur complement over w of M without its rate term."""
    nx, nv = f.A.shape[0], f.B1.shape[1]
    S = np.hstack([f.A, f.B1])
    N = np.block([[f.C1, f.D11], [np.zeros((nv, nx)), np.eye(nv)]])
    M = S.T @ P @ S + N.T @ f.Pi @ N
    schur = M[:nx, :nx]
    if nv:
        schur = schur - M[:nx, nx:] @ np.linalg.solve(M[nx:, nx:], M[nx:, :nx])
    L = np.linalg.cholesky(P)
    scaled = np.linalg.solve(L, np.linalg.solve(L, (schur + schur.T) / 2).T)
    return float(np.sqrt(max(np.linalg.eigvalsh((scaled + scaled.T) / 2)[-1], 0.0)))


def _gain(f: Feedback) -> float | None:
    """Gain that the supply rate implies: `|LQ (y + Q^-1 S'u)| <= |LR u|`; exact for a gain bound."""
    if f.supply is None or not positive_definite(-f.supply[0]):
        return None
    Q, S, R = f.supply
    # Scaled by its diagonal first: of outputs in unlike units Q is too badly conditioned to be inverted as it stands.
    d = 1 / np.sqrt(-np.diag(Q))
    root = np.linalg.cholesky(-d[:, None] * Q * d)
    out = d[:, None] * np.linalg.inv(root).T  # out out' = -Q^-1
    QS = -out @ (out.T @ S.T)
    LR = np.sqrt(max(np.linalg.eigvalsh(R - S @ QS)[-1], 0.0))
    return float(LR * np.linalg.norm(out, 2) + np.linalg.norm(QS, 2))


def _dtype(system: System) -> str:
    return ", ".join(sorted({str(leaf.dtype) for leaf in jax.tree.leaves(system) if hasattr(leaf, "dtype")}))

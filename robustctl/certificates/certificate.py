"""The third verb: the numbers that prove a guarantee, checked from the explicit matrices alone."""

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..checks import of_type
from ..errors import RobustctlError
from ..lft import BOUND_ROUNDING
from ..scaled import Scaled
from ..store.json_text import json_text
from ..system import Parameterization, System, explicit_of
from .certificate_text import text_of
from .content import arrays, fingerprint, own_descriptions, weights_sha256
from .dissipation import Inequality, described, positive_definite
from .equilibria import lower_bound
from .faults import array_fault, complex_fault, flag_fault, hidden_fault, step_fault
from .metric import find_metric
from .proof import Proof
from .proven import is_loop, with_proofs
from .rate import rate_found

if TYPE_CHECKING:
    from .model_error import ModelError

FORMAT = 1
PROOFS = ("gain_proof", "rate_proof", "supply_proof")


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What is proven of a model, and the numbers that prove it.

    **Arguments:**

    - `holds`: whether the claim is proven.
    - `margin`: an upper bound, rounding included, on the largest eigenvalue of the dissipation matrix over its largest
      entry; negative where `holds`.
    - `rate`: the certified contraction rate per sample.
    - `rate_found`: a smaller one that `P` proves, near its smallest, rounding included.
    - `gamma`: the certified gain from input to output, None without a claim on it; of a fitted model in its outputs'
      unit over its inputs'.
    - `supply`: `(Q, S, R)` or None.
    - `phi_bound`: the Lipschitz bound of the network inside.
    - `P`: the metric (nx, nx).
    - `reason`: why it does not hold, else empty.
    - `model`: name of the class.
    - `dtype`: of its arrays.
    - `weights_sha256`: hash of all its arrays.
    - `fingerprint`: hash of all that decides what it computes: `weights_sha256` leaves classes, static fields and functions out.
    - `assumptions`: what the proof assumes and does not check, in words.
    - `promised_gamma`: the gain that the construction promises. `gamma` and `rate` are the smallest that could be
      proven, and None where nothing could; with `prove=False` they are the promised ones.
    - `promised_rate`: the contraction rate that the construction promises.
    - `gain_proof`: metric and multipliers that prove `gamma`, a `Proof`; None where none was searched or found.
    - `rate_proof`: those that prove `rate`.
    - `scaled_gamma`: the proven gain between the scaled signals of a fitted model.
    - `unproven`: why a search found nothing, in words.
    - `gains`: of a loop the proven gains between its signals, `gains["d", "y"]`.
    - `supply_margin`: of a dissipative model, the largest m for which the supply rate `(Q, S, R - m I)` could be proven with rate 1:
      more than 0 where it dissipates more than was promised, the passivity index where Q and R are 0.
    - `supply_proof`: metric and multipliers that prove `supply_margin`.
    - `lower_bound`: a gain that a search found between some inputs, so that no gamma is below it; None unless searched.
    - `disproof`: where contraction could not be proven, the `counterexample` that a search found, in words; empty where it found none.
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
    assumptions: tuple[str, ...] = ()
    fingerprint: str = ""
    promised_gamma: float | None = None
    promised_rate: float | None = None
    gain_proof: Proof | None = None
    rate_proof: Proof | None = None
    scaled_gamma: float | None = None
    unproven: tuple[str, ...] = ()
    gains: dict[tuple[str, str], float] = dataclasses.field(default_factory=dict)
    supply_margin: float | None = None
    supply_proof: Proof | None = None
    lower_bound: float | None = None
    disproof: str = ""

    def to_json(self) -> str:
        """Return the certificate as JSON text; numbers keep all their digits."""
        fields = dataclasses.asdict(self) | {
            "P": None if self.P is None else self.P.tolist(),
            "format": FORMAT,
        }
        for name in PROOFS:
            proof = getattr(self, name)
            fields[name] = proof and proof.to_fields()
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
            for name in ("assumptions", "unproven"):
                fields[name] = tuple(fields.get(name, ()))
            for name in PROOFS:
                fields[name] = Proof.from_fields(fields[name]) if fields.get(name) else None
            return cls(**fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RobustctlError(
                f"a certificate must be the JSON that to_json writes, got text that fails with: {error}"
            ) from error

    def __str__(self) -> str:
        """Return a text for people."""
        return text_of(self)


def certify(
    model: Parameterization | System, *, prove: bool = True, seconds: float = 60.0, search: bool = False,
    gains: Sequence[tuple[str, str]] | None = None, error: "ModelError | Sequence[ModelError] | None" = None,
) -> Certificate:  # fmt: skip
    """Check a model's guarantee in float64, trusting nothing but the matrices it steps with and its network.

    The claim (rate, supply rate) is the system's own. The metric is the one that it carries or, where that fails
    (rounded, exported or edited weights), one found again by a Riccati equation. Outside what float64 can
    prove the answer is "does not hold"; a certificate that holds is a proof, rounding included.

    Without a claim contraction alone is tried, from `lft()`. A model without an `lft()` (GRU, LSTM) gets a certificate that
    does not hold and gives that reason. Where contraction could not be proven, `rc.certificates.counterexample` is searched.

    Then the smallest gain and contraction rate are searched that a multiplier for each neuron proves: a model that promises
    contraction alone gets a gain, too, and one with a supply rate gets `supply_margin`. `holds` is about the promise. A search that
    takes long shows a line with an estimate of its time and memory, and is not begun where that is more than there is.

    Of a closed loop the gains between its named signals are proven, as `rc.certificates.certify_loop` describes.

    **Arguments:**

    - `model`: a parameterization or a system.
    - `prove`: whether to search for smaller numbers than the promised ones; without, the answer is instant, and `gamma` and
      `rate` are the promised ones.
    - `seconds`: time limit of that search.
    - `search`: whether to search for a gain from below as well, see `rc.certificates.lower_bound`; none of a loop.
    - `gains`: of a loop, the pairs of signals whose gains are proven, `[("d", "y")]`.
    - `error`: of a loop, by what the plant differs from its model, a `rc.certificates.ModelError` or several.

    **Raises:** `RobustctlError` for something that is neither a parameterization nor a system, for seconds that are not positive, and
    for gains or an error of something that is no loop.

    **Example:** ::

        model = rc.nn.LipschitzREN(nu=1, nx=2, nv=2, ny=1, gamma=2.0, key=jax.random.key(0))
        certificate = rc.certify(model, search=True)
        print(certificate.promised_gamma, certificate.gamma, certificate.lower_bound)
    """
    do = "of what fit returns give .model, of what fit_policy returns .policy"
    system = of_type(explicit_of(model), System, "certify needs a parameterization or a system", do)
    if (prove and is_loop(system)) or gains is not None or error is not None:
        from .loop_gains import certify_loop  # which imports this module

        return certify_loop(system, gains=gains, error=error, seconds=seconds)
    found = _of_system(system)
    inner = system.system if isinstance(system, Scaled) else system
    found = dataclasses.replace(
        found, model=type(inner).__name__, dtype=dtypes(inner), weights_sha256=weights_sha256(system),
        fingerprint=fingerprint(system), assumptions=(*found.assumptions, *_assumed(system)),
        promised_gamma=found.gamma, promised_rate=found.rate,
    )  # fmt: skip
    if prove:
        found = with_proofs(found, system, seconds)
    return dataclasses.replace(found, lower_bound=lower_bound(system).value) if search else found


def _of_system(system: System) -> Certificate:
    if reason := flag_fault(system):
        return _void(reason)
    # Described first: a class refuses arrays that it knows not to fit with its own message.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        claims = _claims(system)
    if reason := (complex_fault(system) or array_fault(system) or hidden_fault(system) or step_fault(system)):
        return _void(reason)
    if isinstance(claims, str):
        return _void(claims)
    found = [_of_one(f) for f in claims]
    return found[0] if len(found) == 1 else _of_modes(found)


def _claims(system: System) -> list[Inequality] | str:
    """Return the inequality of each mode of a system, or in words why one has none."""
    found = described(system)
    if isinstance(found, str):
        return found
    for mode, f in found:
        if f is None:
            return f"{type(mode).__name__} makes no claim: nothing about it is guaranteed"
    return [f for _, f in found if f is not None]


def _assumed(system: System) -> tuple[str, ...]:
    """What no matrix proves of this system, in words."""
    own = [f"lft() of {name} describes its step: sizes were compared" for name in own_descriptions(system)]
    flags = [f"its inputs {list(system.flags)}, which are flags, are 0 or 1"] if system.flags else []
    return (*own, *flags)


def _void(reason: str) -> Certificate:
    return _certificate(None, float("inf"), None, reason)


def _of_one(f: Inequality) -> Certificate:
    if f.fault:
        return _void(f.fault)
    if f.form.nx == 0:
        return _of_static(f)
    P, found = find_metric(f)
    reason = _why_not(f, found)
    return _certificate(f, found, P, reason)


def _certificate(f: Inequality | None, margin: float, P: np.ndarray | None, reason: str) -> Certificate:
    """Fill in what follows from the inequality; the model's name and weights are the caller's."""
    supply = f.claim.supply if f else None
    rate = f.claim.rate if f and f.form.nx else None  # without a state there is nothing to forget
    return Certificate(
        holds=not reason, margin=margin, rate=rate,
        rate_found=rate_found(f, P) if f and P is not None and not reason else None,
        gamma=_gain(supply), supply=tuple(M.tolist() for M in supply) if supply and rate is not None else None,
        phi_bound=f.network_bound if f else None, P=P, reason=reason,
        assumptions=f.form.assumptions if f else (), model="", dtype="", weights_sha256="", fingerprint="",
    )  # fmt: skip


def _of_static(f: Inequality) -> Certificate:
    """A map without state: nothing to forget, and a gain of at most `|D21| |blocks| |D12| + |D22|`, D11 = 0."""
    gain, claimed, form = f.network_bound or 0.0, _gain(f.claim.supply), f.form
    if claimed is None:
        return _certificate(
            f, float("inf"), None, "a map without state needs a gain to claim, and this one has none"
        )
    if form.D11.any() or not all(np.isfinite(M).all() for M in form.matrices):
        return _certificate(
            f,
            float("inf"),
            None,
            "only a finite map with one nonlinear block between its ports can be bounded",
        )
    proven = np.linalg.norm(form.D21, 2) * gain * np.linalg.norm(form.D12, 2) + np.linalg.norm(form.D22, 2)
    margin = float(proven * (1 + BOUND_ROUNDING) / claimed - 1) if np.isfinite(proven) else float("inf")
    holds = margin < 0 and np.isfinite(claimed)
    reason = _without_bound(f) or "the network's bound could not be proven to be below one"
    return _certificate(f, margin, None, "" if holds else reason)


def _of_modes(found: list[Certificate]) -> Certificate:
    """The weakest of the certificates of all modes, which must share metric and claim: then switching does no harm."""
    if not found:
        return _void("a system must have a mode to be in, got modes() that returns none")
    worst = max(found, key=lambda c: c.margin)
    if all(c.holds and _same_claim(c, worst) for c in found):
        return dataclasses.replace(worst, rate_found=max(c.rate_found or 1.0 for c in found))
    reason = (
        worst.reason
        or "the modes between which the system switches could not be proven with one metric and claim"
    )
    return dataclasses.replace(worst, holds=False, rate_found=None, reason=reason)


def _same_claim(a: Certificate, b: Certificate) -> bool:
    if a.P is None or b.P is None:
        return False
    return np.array_equal(a.P, b.P) and (a.rate, a.supply) == (b.rate, b.supply)


def _why_not(f: Inequality, found: float) -> str:
    if not all(np.isfinite(M).all() for M in f.form.matrices):
        return "the model has weights that are not finite; train again with a smaller step"
    if not np.isfinite(f.network_bound or 0.0):
        return (
            _without_bound(f)
            or "the network inside offers no finite bound that can be checked; give it a method lipschitz_bound(), or use LBDN"
        )
    if f.claim.supply is not None and not positive_definite(-f.claim.supply[0]):
        return "Q of the supply rate must be negative definite for it to bound anything"
    if not found < 0:
        return "the dissipation inequality could not be proven in float64 for this rate and supply rate"
    return ""


def _without_bound(f: Inequality) -> str:
    return next((block.reason for block in f.form.blocks if block.reason), "")


def _gain(supply: tuple[np.ndarray, np.ndarray, np.ndarray] | None) -> float | None:
    """Gain that the supply rate implies: `|LQ (y + Q^-1 S'u)| <= |LR u|`; exact for a gain bound."""
    if supply is None or not positive_definite(-supply[0]):
        return None
    Q, S, R = supply
    # Scaled by its diagonal first: of outputs in unlike units Q is too badly conditioned to be inverted as it stands.
    d = 1 / np.sqrt(-np.diag(Q))
    root = np.linalg.cholesky(-d[:, None] * Q * d)
    out = d[:, None] * np.linalg.inv(root).T  # out out' = -Q^-1
    QS = -out @ (out.T @ S.T)
    LR = np.sqrt(max(np.linalg.eigvalsh(R - S @ QS)[-1], 0.0))
    return float(LR * np.linalg.norm(out, 2) + np.linalg.norm(QS, 2))


def dtypes(system: System) -> str:
    """Return the dtypes of a system's arrays, in words."""
    return ", ".join(sorted({str(array.dtype) for _, array in arrays(system)}))

"""The third verb: what a system promises, what can be proven of it, and what a search finds."""

import dataclasses
from collections.abc import Sequence

from ..checks import of_type
from ..ports import Loop
from ..system import Parameterization, System, explicit_of
from .certificate import Certificate
from .content import dtypes, fingerprint, own_descriptions, weights_sha256
from .equilibria import lower_bound
from .loop_gains import certify_loop
from .model_error import ModelError
from .promise import promised
from .proven import with_proofs


def certify(
    model: Parameterization | System, *, prove: bool = True, seconds: float = 60.0, search: bool = False,
    gains: Sequence[tuple[str, str]] | None = None, error: ModelError | Sequence[ModelError] | None = None,
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
    if (prove and isinstance(system, Loop)) or gains is not None or error is not None:
        return certify_loop(system, gains=gains, error=error, seconds=seconds)
    found = promised(system)
    inner = system.innermost
    found = dataclasses.replace(
        found, model=type(inner).__name__, dtype=dtypes(inner), weights_sha256=weights_sha256(system),
        fingerprint=fingerprint(system), assumptions=(*found.assumptions, *_assumed(system)),
        promised_gamma=found.gamma, promised_rate=found.rate,
    )  # fmt: skip
    if prove:
        found = with_proofs(found, system, seconds)
    return dataclasses.replace(found, lower_bound=lower_bound(system).value) if search else found


def _assumed(system: System) -> tuple[str, ...]:
    """What no matrix proves of this system, in words."""
    own = [f"lft() of {name} describes its step: sizes were compared" for name in own_descriptions(system)]
    flags = [f"its inputs {list(system.flags)}, which are flags, are 0 or 1"] if system.flags else []
    return (*own, *flags)

"""Start a model near silence: as good as no output at first, everything still free to move."""

from typing import TypeVar

import equinox as eqx

from ..errors import ModelError
from ..scaled import Rescaled
from ..system import Parameterization
from .gated import GRU, LSTM
from .r2dn import ContractingR2DN, DissipativeR2DN, LipschitzR2DN
from .ren import ContractingREN, DissipativeREN, LipschitzREN
from .stable_linear import StableLinear

_M = TypeVar("_M", bound=Parameterization)


def quiet(model: _M, factor: float = 1e-2) -> _M:
    """Return the model with its output arrays multiplied by `factor`, so that its output is small at first.

    For a policy that adds to a base controller: training then starts from the base controller and not from
    noise around it. The guarantee holds for every value of the free arrays, so also for these.

    **Raises:** `ModelError` for a model without an output that can be scaled, and a factor that is not positive.
    """
    if not factor > 0:
        raise ModelError(f"factor must be positive, got {factor}; at zero some gradients would be zero too")

    if isinstance(model, Rescaled):
        return eqx.tree_at(lambda m: m.parameterization, model, quiet(model.parameterization, factor))
    if isinstance(model, LipschitzR2DN | DissipativeR2DN):
        return _quiet_core(model, factor)
    return eqx.tree_at(_outputs(model), model, replace_fn=lambda a: factor * a)


def _quiet_core(model, factor: float):
    """In the R2DN's core the output's rows of C stand below those of the network."""

    def parts(m):
        return [m.core.C, m.core.G21, m.core.G22]

    C, G21, G22 = parts(model)
    return eqx.tree_at(
        parts, model, [C.at[model.core.bv.size :].multiply(factor), factor * G21, factor * G22]
    )


def _outputs(model):
    if isinstance(model, ContractingR2DN | ContractingREN):
        return lambda m: [m.C2, m.D21]
    if isinstance(model, LipschitzREN | DissipativeREN):
        return lambda m: [m.core.C2_free, m.core.D21_free, m.core.G22]
    if isinstance(model, StableLinear):
        return lambda m: [m.C, m.D]
    if isinstance(model, GRU | LSTM):
        return lambda m: [m.system.C]
    raise ModelError(
        f"there is no output to make quiet in a {type(model).__name__}; take an R2DN, a REN, a StableLinear, a GRU or an LSTM"
    )

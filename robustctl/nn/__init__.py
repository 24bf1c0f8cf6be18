"""Learned models: free arrays in, a system with a guarantee out."""

from .activations import ACTIVATIONS as ACTIVATIONS
from .corrected import CorrectedR2DN as CorrectedR2DN
from .gated import GRU as GRU
from .gated import LSTM as LSTM
from .initializers import long_memory as long_memory
from .initializers import random as random
from .innovation import InnovationR2DN as InnovationR2DN
from .innovation import InnovationSystem as InnovationSystem
from .linear import LinearSystem as LinearSystem
from .linear import StableLinear as StableLinear
from .lipschitz import lipschitz_bound as lipschitz_bound
from .quiet import quiet as quiet
from .r2dn import ContractingR2DN as ContractingR2DN
from .r2dn import DissipativeR2DN as DissipativeR2DN
from .r2dn import ExplicitR2DN as ExplicitR2DN
from .r2dn import LipschitzR2DN as LipschitzR2DN
from .r2dn import passive as passive
from .ren import ContractingREN as ContractingREN
from .ren import DissipativeREN as DissipativeREN
from .ren import ExplicitREN as ExplicitREN
from .ren import LipschitzREN as LipschitzREN
from .sandwich import LBDN as LBDN
from .state_observer import StateObserver as StateObserver
from .static import LipschitzStatic as LipschitzStatic
from .static import StaticNetwork as StaticNetwork
from .supply import Supply as Supply

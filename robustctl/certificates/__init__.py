"""Certificates: proofs from the explicit matrices, and searched lower bounds that show how tight they are."""

from .certificate import Certificate as Certificate
from .certificate import certify as certify
from .content import fingerprint as fingerprint
from .content import weights_sha256 as weights_sha256
from .counterexample import Counterexample as Counterexample
from .counterexample import counterexample as counterexample
from .lipschitz import LipschitzBound as LipschitzBound
from .lipschitz import lipschitz as lipschitz
from .lower_bound import LowerBound as LowerBound
from .lower_bound import contraction_lower_bound as contraction_lower_bound
from .lower_bound import gain_lower_bound as gain_lower_bound
from .networks import GroupSort as GroupSort
from .networks import Householder as Householder
from .networks import Residual as Residual
from .proof import Proof as Proof
from .recheck import recheck as recheck
from .training_margin import certificate_margin as certificate_margin

"""Certificates: proofs from the explicit matrices, and searched lower bounds that show how tight they are."""

from .ascent import LowerBound as LowerBound
from .ascent import contraction_lower_bound as contraction_lower_bound
from .ascent import gain_lower_bound as gain_lower_bound
from .certificate import Certificate as Certificate
from .certificate import certify as certify
from .content import fingerprint as fingerprint
from .content import weights_sha256 as weights_sha256
from .counterexample import Counterexample as Counterexample
from .counterexample import counterexample as counterexample
from .equilibria import lower_bound as lower_bound
from .largest_error import ErrorTable as ErrorTable
from .largest_error import LargestError as LargestError
from .largest_error import error_table as error_table
from .largest_error import largest_error as largest_error
from .lipschitz import LipschitzBound as LipschitzBound
from .lipschitz import lipschitz as lipschitz
from .list_layers import GroupSort as GroupSort
from .list_layers import Householder as Householder
from .list_layers import Residual as Residual
from .loop_certificate import LoopCertificate as LoopCertificate
from .loop_gains import certify_loop as certify_loop
from .model_error import ModelError as ModelError
from .model_error import delay_error as delay_error
from .proof import Proof as Proof
from .recheck import recheck as recheck
from .training_margin import certificate_margin as certificate_margin

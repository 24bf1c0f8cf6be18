"""Certificates: proofs from the explicit matrices, and searched lower bounds beside them."""

from .certificate import Certificate as Certificate
from .certificate import certificate as certificate
from .certificate import weights_sha256 as weights_sha256
from .empirical import LowerBound as LowerBound
from .empirical import contraction_lower_bound as contraction_lower_bound
from .empirical import gain_lower_bound as gain_lower_bound

"""Analysis of a log before training: findings, the plant's memory, and the errors of linear models and of noise."""

from .advice import Advice as Advice
from .advise import advise as advise

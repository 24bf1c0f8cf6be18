"""What a log says before training: findings, the memory it shows, and the floors of linear models and noise."""

from .advice import Advice as Advice
from .advise import advise as advise

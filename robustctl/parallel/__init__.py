"""Rollouts in parallel over time."""

from .converge import Effort as Effort
from .in_time import parallel_rollout as parallel_rollout
from .recurrence import Method as Method

"""Trainings kept in folders: run folders, checkpoints, logs, fingerprints, devices."""

from .run_folder import Run as Run
from .tensorboard import TensorBoard as TensorBoard
from .watchers import Watcher as Watcher

"""Trainings stored in folders: run folders, checkpoints, logs, fingerprints, devices."""

from .fingerprint import array_hash as array_hash
from .fingerprint import model_hash as model_hash
from .monitor import Monitor as Monitor
from .run_folder import Run as Run
from .tensorboard import TensorBoard as TensorBoard
from .watchers import Watcher as Watcher

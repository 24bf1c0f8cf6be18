"""Gymnasium environments of robustctl's plants; importing this package registers `robustctl/<Name>-v0` for each plant."""

import gymnasium as _gym

from .env import PlantEnv as PlantEnv
from .functional import FunctionalEnv as FunctionalEnv
from .functional import functional as functional
from .policy import Policy as Policy
from .table import ENVIRONMENTS as ENVIRONMENTS
from .vector import VectorPlantEnv as VectorPlantEnv

for _name, _entry in ENVIRONMENTS.items():
    _id = f"robustctl/{_name}-v0"
    if _id not in _gym.registry:
        _gym.register(
            _id,
            entry_point="robustctl_envs.env:PlantEnv",
            vector_entry_point="robustctl_envs.vector:VectorPlantEnv",
            max_episode_steps=_entry.horizon,
            kwargs={"name": _name},
        )

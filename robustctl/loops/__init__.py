"""Systems made of systems: feedback, series, Youla."""

from .feedback import Feedback as Feedback
from .feedback import Gain as Gain
from .feedback import LoopOutput as LoopOutput
from .feedback import Series as Series
from .feedback import feedback as feedback
from .plant_scenario import PlantScenario as PlantScenario
from .youla import Base as Base
from .youla import ModelBased as ModelBased
from .youla import Youla as Youla
from .youla_map import YoulaMap as YoulaMap
from .youla_map import YoulaOutput as YoulaOutput

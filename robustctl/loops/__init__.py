"""Systems made of systems: feedback, series, Youla, a learned system beside a controller."""

from .base import internal_model as internal_model
from .base import noiseless as noiseless
from .base import plant_poles as plant_poles
from .beside import Beside as Beside
from .feedback import Feedback as Feedback
from .feedback import Gain as Gain
from .feedback import LoopOutput as LoopOutput
from .feedback import Series as Series
from .feedback import feedback as feedback
from .plant_scenario import PlantScenario as PlantScenario
from .simulate import LoopRun as LoopRun
from .simulate import simulate as simulate
from .youla import Base as Base
from .youla import ModelBased as ModelBased
from .youla import Youla as Youla
from .youla_map import YoulaMap as YoulaMap
from .youla_map import YoulaOutput as YoulaOutput

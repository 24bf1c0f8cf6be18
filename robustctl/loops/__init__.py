"""Systems made of systems: feedback, series, Youla, a learned system beside a controller."""

from .alongside import Alongside as Alongside
from .feedback import Feedback as Feedback
from .feedback import Gain as Gain
from .feedback import LoopOutput as LoopOutput
from .feedback import Series as Series
from .feedback import feedback as feedback
from .internal_model import internal_model as internal_model
from .internal_model import noiseless as noiseless
from .internal_model import plant_poles as plant_poles
from .loop_run import LoopRun as LoopRun
from .loop_run import simulate as simulate
from .plant_scenario import PlantScenario as PlantScenario
from .youla import Base as Base
from .youla import ModelBased as ModelBased
from .youla import Youla as Youla
from .youla_map import YoulaMap as YoulaMap
from .youla_map import YoulaOutput as YoulaOutput

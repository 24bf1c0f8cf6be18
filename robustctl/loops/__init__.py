"""Systems made of systems: feedback, series, Youla, a learned system alongside a controller."""

from .alongside import Alongside as Alongside
from .feedback import Feedback as Feedback
from .feedback import LoopOutput as LoopOutput
from .feedback import Series as Series
from .feedback import feedback as feedback
from .gain import Delay as Delay
from .gain import Gain as Gain
from .gain import open_loop as open_loop
from .gain import zero_gain as zero_gain
from .integral_base import IntegralBase as IntegralBase
from .internal_model import internal_model as internal_model
from .internal_model import noiseless as noiseless
from .internal_model import plant_poles as plant_poles
from .loop_run import LoopRun as LoopRun
from .loop_run import simulate as simulate
from .model_plant import ModelPlant as ModelPlant
from .model_plant import ModelPlantState as ModelPlantState
from .parallel import Parallel as Parallel
from .parallel_model import ParallelModel as ParallelModel
from .plant_scenario import PlantScenario as PlantScenario
from .ports import Ports as Ports
from .youla import Base as Base
from .youla import ModelBased as ModelBased
from .youla import Youla as Youla
from .youla_map import YoulaMap as YoulaMap
from .youla_map import YoulaOutput as YoulaOutput

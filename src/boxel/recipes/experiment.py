"""A complete experiment: every choice of a run, in one frozen record."""

from boxel.config import Config
from boxel.consolidation import ConsolidateConfig
from boxel.inference.config import PredictConfig
from boxel.models import ModelConfig, RetinaUNetConfig
from boxel.preparation.plan import PlanConfig
from boxel.training.config import TrainConfig


class Experiment(Config):
    """What `config.json` of a run holds.

    Attributes:
        recipe: the name of the recipe it came from.
        reproduces: what published work it repeats, and where it departs from it.
    """

    recipe: str = "retina_unet"
    reproduces: str = ""
    seed: int = 0
    plan: PlanConfig = PlanConfig()
    model: ModelConfig = RetinaUNetConfig()
    train: TrainConfig = TrainConfig()
    predict: PredictConfig = PredictConfig()
    consolidate: ConsolidateConfig = ConsolidateConfig()

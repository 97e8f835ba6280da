"""A complete experiment: every choice of a run, in one frozen record."""

from collections.abc import Iterable
from typing import Self

from pydantic import Field

from boxel.config import Config, leaves
from boxel.consolidation import ConsolidateConfig
from boxel.inference.config import PredictConfig
from boxel.models import ModelConfig, RetinaUNetConfig
from boxel.preparation.plan import PlanConfig
from boxel.training.config import LENGTHS, TrainConfig

# Settings that choose the random numbers, or how and how often something is computed, not what.
NOT_OF_THE_PAPER = frozenset(
    {
        "recipe",
        "seed",
        "train.accelerator",
        "train.compile",
        "train.num_workers",
        "train.precision",
        "train.save_every",
        "predict.batch_size",
        "predict.precision",
    }
)


class Experiment(Config):
    """What `config.json` of a run holds.

    Attributes:
        recipe: the name of the recipe it came from.
        reproduces: what published result it repeats, and where it departs from it; empty if it repeats none.
        seed: random seed of the initial weights, the patches and their changes; where the data set prescribes no
            folds, `boxel prepare --seed` is that of the fold split.
    """

    recipe: str = "retina_unet"
    reproduces: str = ""
    seed: int = Field(0, ge=0)
    plan: PlanConfig = PlanConfig()
    model: ModelConfig = RetinaUNetConfig()
    train: TrainConfig = TrainConfig()
    predict: PredictConfig = PredictConfig()
    consolidate: ConsolidateConfig = ConsolidateConfig()

    def override(self, assignments: Iterable[str]) -> Self:
        """A copy with leaves replaced, see `Config.override`.

        It reproduces nothing any more where a setting of the paper has changed; the seed, and how it is computed, may.
        `train.steps`, `train.epochs` and `train.budget` replace each other; two at once are a ValueError.

        Example:
            >>> from boxel import get_recipe
            >>> get_recipe("mdt_toy").override(["train.lr=0.5"]).reproduces
            ''
        """
        assignments = list(assignments)
        keys = {
            key.strip() for key, _, value in (text.partition("=") for text in assignments) if value.strip() != "null"
        }
        chosen = [key for key in ("train.steps", "train.epochs", "train.budget") if key in keys]
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen[:2])} {LENGTHS}")
        if chosen:
            assignments += [f"{key}=null" for key in ("train.epochs", "train.budget") if key not in chosen]
        if {"train.budget", "train.validate_every"} <= keys:
            raise ValueError("train.validate_every has no effect with train.budget, which chooses it; leave it out")
        if {"plan.memory", "plan.voxels_per_step"} <= keys:
            raise ValueError("plan.memory and plan.voxels_per_step both limit a step; set one of them")
        if "plan.voxels_per_step" in keys:
            assignments.append("plan.memory=null")
        changed = super().override(assignments)
        before, after = dict(leaves(self.to_dict())), dict(leaves(changed.to_dict()))
        different = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        if different <= NOT_OF_THE_PAPER or "reproduces" in different:
            return changed
        return changed.model_copy(update={"reproduces": ""})

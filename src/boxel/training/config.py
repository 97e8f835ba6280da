"""The experimenter's choices about training."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from boxel.config import Config
from boxel.loading.augment import AugmentConfig
from boxel.loading.sampler import SamplerConfig
from boxel.training.schedule import PolyConfig, ScheduleConfig

GPU_DAY = "gpu-day"
UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
LENGTHS = "both say how long to train; set one of them"
MOST_LR = 1e6  # of a much larger one, single precision makes infinity
LAST = "last"  # instead of a metric that ranks checkpoints


def seconds_of(duration: object) -> float:
    """The seconds of a duration such as `90s`, `10min`, `1.5h` or `gpu-day`; a number has seconds.

    Raises:
        ValueError: it is no duration.
    """
    text = "24h" if duration == GPU_DAY else str(duration)
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*(s|min|h|d)?\s*", text)
    if not match or not (seconds := float(match[1]) * UNITS[match[2] or "s"]):
        raise ValueError(f"{text[:80]!r} is no duration; give one such as 90s, 10min, 2h or {GPU_DAY}")
    return seconds


class TrainConfig(Config):
    """The training of one model.

    Attributes:
        steps: batches to train on; each is an optimisation step for every phase of the model.
        epochs: passes over the training data, instead of `steps`. They become steps when the training starts, which is
            what `config.json` of a run holds; an epoch has as many patches as cover every training image, or every
            slice, side by side (`PatchSampler.patches_per_epoch`).
        budget: time in which the training ends, instead of `steps`: `90s`, `10min`, `2h`, `1.5d`, or `gpu-day`, which
            is 24 hours and needs a GPU. It becomes steps when the training starts: a step and a validation are
            measured, and `validate_every`, `validation_cases`, `keep` and `warmup` are adapted. `config.json` of a run
            holds them and the budget. The training takes longer on a machine that has other work; see `max_seconds`.
        max_seconds: ends the training after this time, unless the steps end it before; the schedule follows the one
            that is further advanced. Such a training depends on the machine and is not exactly repeatable.
        batch_size: patches per step and process; None takes the plan's.
        optimizer: what changes the weights; `adamw` is Adam with weight decay apart from the gradient.
        lr: learning rate at its highest, after the warm-up.
        weight_decay: how much the weights of convolutions and layers shrink; biases and norms do not.
        schedule: how the learning rate falls: `poly`, `cosine`, `constant` or `steps`, see `boxel.training.schedule`.
        patience: so many validations in a row that have not raised the mean of the last three scores (`select_by`)
            above its best begin the last phase, in which the learning rate falls to zero. None takes all steps.
        last_phase: its steps, as a share of those before.
        warmup: steps over which the learning rate rises from zero.
        warmup_power: the rise is (step / warmup)^power: 1 is a straight line, 4 the burn-in of Darknet.
        momentum: of `sgd`; None is 0.9. The other optimisers have none, and refuse it.
        nesterov: whether the momentum of `sgd` is Nesterov's; None is true where there is momentum.
        clip_norm: gradients are scaled to at most this norm; None, or 0, leaves them as they are.
        average: decay per step of the exponential moving average of the weights; 0 uses the raw weights.
        precision: `auto` is bf16 on devices that compute in it, fp32 on the CPU.
        compile: compile the network with torch.compile, which takes minutes at the start; on the CPU it needs a C++
            compiler.
        accelerator: where to compute (`--device`): `auto` is a GPU, if there is one; `gpu` is CUDA or MPS.
        devices: number of devices, each with a process and patches of its own.
        num_workers: processes that load patches, for each device; None is 8, or 0 on the CPU.
        validate_every: steps between validations, each with a checkpoint.
        validation_cases: largest number of cases to validate on during training: whole patients, drawn once with the
            seed and stratified by the classes they have; None takes all. Where several checkpoints are kept, they are
            validated on all cases at the end, and ranked by that.
        keep: number of checkpoints to keep, those with the best validation scores.
        select_by: the validation metric that ranks checkpoints: any that `boxel evaluate` computes of boxes and of
            which more is better, at any IoU threshold; or `last`, for which the newest checkpoints are the best.
        save_every: steps between saved states from which an interrupted training resumes.
    """

    steps: int = Field(2000, ge=1)
    epochs: float | None = Field(None, gt=0)
    budget: str | None = None
    max_seconds: float | None = Field(None, gt=0)
    batch_size: int | None = Field(None, ge=1)
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = Field(1e-3, ge=0, le=MOST_LR)
    weight_decay: float = Field(1e-4, ge=0, le=MOST_LR)
    schedule: ScheduleConfig = PolyConfig()
    patience: int | None = Field(None, ge=1)
    last_phase: float = Field(0.25, gt=0, le=1)
    warmup: int = Field(50, ge=0)
    warmup_power: float = Field(1.0, gt=0)
    momentum: float | None = Field(None, ge=0, lt=1)
    nesterov: bool | None = None
    clip_norm: float | None = Field(12.0, ge=0)
    average: float = Field(0.0, ge=0, lt=1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False
    accelerator: Literal["auto", "cpu", "cuda", "gpu", "mps"] = "auto"
    devices: int = Field(1, ge=1)
    num_workers: int | None = Field(None, ge=0)
    validate_every: int = Field(500, ge=1)
    validation_cases: int | None = Field(None, ge=1)
    keep: int = Field(1, ge=1)
    select_by: str = "AP@0.10"
    save_every: int = Field(100, ge=1)
    sampler: SamplerConfig = SamplerConfig()
    augment: AugmentConfig = AugmentConfig()

    @field_validator("budget", mode="before")
    @classmethod
    def _in_seconds(cls, budget: object) -> object:
        return budget if budget in (None, GPU_DAY) else f"{seconds_of(budget):.10g}s"

    @property
    def budget_seconds(self) -> float | None:
        """The time in which the training ends, if a budget is set."""
        return seconds_of(self.budget) if self.budget else None

    @model_validator(mode="after")
    def _all_have_effect(self) -> Self:
        if self.budget and self.epochs:
            raise ValueError(f"epochs and budget {LENGTHS}")
        if self.warmup_power != 1 and not self.warmup:
            raise ValueError("warmup_power has no effect without a warm-up; set train.warmup, or leave it out")
        if self.patience and self.select_by == LAST:
            raise ValueError("patience has no effect on select_by=last, which has no scores; leave one of them out")
        if self.patience is None and self.last_phase != type(self).model_fields["last_phase"].default:
            raise ValueError("last_phase has no effect without patience; set train.patience, or leave it out")
        for name in ("momentum", "nesterov"):
            if self.optimizer != "sgd" and getattr(self, name) is not None:
                raise ValueError(
                    f"{name} has no effect on {self.optimizer}, which has its own two moments; set "
                    f"train.optimizer=sgd, or leave out train.{name}"
                )
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum; set train.momentum above 0, or train.nesterov=false")
        return self

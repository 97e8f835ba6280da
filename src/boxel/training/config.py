"""What the experimenter chooses about training."""

from typing import Literal

from boxel.config import Config
from boxel.loading.augment import AugmentConfig
from boxel.loading.sampler import SamplerConfig


class TrainConfig(Config):
    """The training of one model.

    Attributes:
        steps: optimisation steps.
        max_seconds: ends the training after so much time, if the steps have not; the schedule follows whichever is
            further. Such a training depends on the machine and is not exactly repeatable.
        batch_size: patches per step and process; None takes the plan's.
        schedule: `poly` falls to zero as (1 - t)^0.9, `cosine` as half a cosine, `constant` stays.
        warmup: steps over which the learning rate rises from zero.
        average: decay per step of the exponential moving average of the weights; 0 keeps the raw weights.
        precision: `auto` is bf16 on devices that compute in it, fp32 on the CPU.
        validate_every: steps between validations, each with a checkpoint.
        validation_cases: at most so many cases are used for validation; None takes all.
        keep: checkpoints kept, best validation score first.
        select_by: the validation metric that ranks checkpoints.
        save_every: steps between states from which a killed training continues.
    """

    steps: int = 2000
    max_seconds: float | None = None
    batch_size: int | None = None
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-4
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    warmup: int = 50
    clip_norm: float | None = 12.0
    average: float = 0.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False
    accelerator: str = "auto"
    devices: int = 1
    num_workers: int | None = None
    validate_every: int = 500
    validation_cases: int | None = None
    keep: int = 1
    select_by: str = "AP@0.10"
    save_every: int = 100
    sampler: SamplerConfig = SamplerConfig()
    augment: AugmentConfig = AugmentConfig()

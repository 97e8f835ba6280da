"""Optimiser, schedule and the moving average of the weights."""

import math

import torch
from torch import Tensor, nn

from boxel.training.config import TrainConfig
from boxel.training.patience import LastPhase


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser, with weight decay on weights only: not on biases and norms, which have one axis."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "sgd":
        momentum = 0.9 if config.momentum is None else config.momentum
        nesterov = momentum > 0 if config.nesterov is None else config.nesterov
        return torch.optim.SGD(groups, lr=config.lr, momentum=momentum, nesterov=nesterov)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=config.lr, fused=True)


def learning_rate(config: TrainConfig, step: int, seconds: float = 0.0, last: LastPhase | None = None) -> float:
    """The learning rate of a step, `seconds` into the training: warm-up, then the schedule, then the last phase."""
    if last and step >= last.first:
        return learning_rate(config, last.first, last.seconds) * (last.end - step) / (last.end - last.first)
    rise = min(1.0, (step + 1) / max(1, config.warmup)) ** config.warmup_power
    done = min(1.0, max(step / max(1, config.steps), seconds / (config.max_seconds or math.inf)))
    return config.lr * rise * config.schedule.factor_at(done)


class MovingAverage:
    """Exponential moving average of the floating-point state of a model; the decay grows with the steps seen."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            mine = self.state[name]
            if mine.is_floating_point():
                mine.lerp_(value.detach(), 1 - decay)
            else:
                mine.copy_(value)

    def load(self, state: dict[str, Tensor]) -> None:
        for name, value in state.items():
            self.state[name].copy_(value)

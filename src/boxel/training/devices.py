"""Devices: whether this machine has those that are asked for, and what trains on them."""

from typing import Any

import torch

from boxel.training.config import TrainConfig


def device_named(name: str | None) -> torch.device:
    """The device that `cpu`, `cuda`, `mps`, `gpu` (either of the latter two) or `auto` (a GPU, if there is one) means.

    Raises:
        ValueError: this machine has no such device, or torch knows none of that name.
    """
    found = _found()
    gpu = "mps" if found["mps"] and not found["cuda"] else "cuda"
    if name in (None, "auto"):
        name = gpu if found[gpu] else "cpu"
    try:
        device = torch.device(gpu if name == "gpu" else str(name))
    except RuntimeError:
        raise ValueError(f"device {name!r} is unknown; choose auto, cpu, cuda or mps") from None
    number = found.get(device.type, 1)
    if (device.index or 0) >= number:
        raise ValueError(
            f"device {str(name)!r}: torch {torch.__version__} finds {number} such devices on this machine; choose auto "
            "or cpu"
        )
    return device


def check_devices(config: TrainConfig) -> None:
    """Raise ValueError if this machine has not the devices that are asked for."""
    found = _found()
    most = {**found, "gpu": max(found.values())}.get(config.accelerator)
    if most is not None and config.devices > most:
        raise ValueError(
            f"train.accelerator={config.accelerator} with train.devices={config.devices}: torch {torch.__version__} "
            f"finds {most} such devices on this machine; set train.accelerator to auto or cpu, or train.devices lower"
        )


def _found() -> dict[str, int]:
    """How many devices of each kind this machine has."""
    return {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}


def make_fabric(config: TrainConfig, *, unused_parameters: bool = False) -> Any:
    """Devices and precision.

    Args:
        unused_parameters: a backward pass may leave parameters without a gradient, which costs several processes a
            search for them.
    """
    from lightning_fabric import Fabric

    precision = config.precision
    gpu = torch.cuda.is_available() and config.accelerator in ("auto", "cuda", "gpu")
    if precision == "auto":
        precision = "bf16" if gpu and torch.cuda.is_bf16_supported() else "fp32"
    names: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
    distributed = "ddp_find_unused_parameters_true" if unused_parameters else "ddp"
    fabric = Fabric(
        accelerator=config.accelerator,
        devices=config.devices,
        strategy=distributed if config.devices > 1 else "auto",
        precision=names[precision],
    )
    fabric.launch()
    return fabric

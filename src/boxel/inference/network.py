"""How a model sees a batch of tiles, and how many voxels of them the memory allows."""

import logging
import math
from dataclasses import dataclass
from typing import Any, Self
from weakref import WeakKeyDictionary, finalize

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from boxel.inference.config import PredictConfig
from boxel.models.base import Model
from boxel.types import Detections, Task

__all__ = ["Network", "note", "voxels_of_training"]

CPU_BYTES, GPU_SHARE = 2**29, 0.5  # of a batch without `predict.memory`: 0.5 GiB, or of a GPU's free memory
GIB = 2**30
BESIDE = 2  # times the tensors: workspaces of libraries and gaps make a process grow by 1.3 to 2 times as much
_measured: WeakKeyDictionary[Model, dict[object, float]] = WeakKeyDictionary()  # bytes per voxel
_noted: WeakKeyDictionary[Model, set[str]] = WeakKeyDictionary()


class _Live(TorchDispatchMode):
    """Counts the bytes of all tensors that live at the same time, apart from those that there were before."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage())._cdata not in self._known:
                self._known.add(storage._cdata)
                finalize(storage, self._free, storage._cdata, storage.nbytes())
                self.bytes += storage.nbytes()
        self.peak = max(self.peak, self.bytes)
        return result

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.bytes -= size


def voxels_of_training(task: Task) -> int:
    """The voxels of a training batch."""
    return task.batch_size * math.prod(task.patch_size)


@dataclass(frozen=True)
class Network:
    """How a model sees a batch of tiles."""

    config: PredictConfig
    device: torch.device
    bf16: bool
    segment: bool

    @classmethod
    def of(cls, config: PredictConfig, device: torch.device, *, segment: bool) -> Self:
        """The settings on a device; with `segment` also class probabilities come back."""
        capable = device.type == "cuda" and torch.cuda.is_bf16_supported()
        bf16 = config.precision == "bf16" or (config.precision == "auto" and capable)
        return cls(config, device, bf16, segment)

    def see(self, model: Model, images: Tensor) -> tuple[list[Detections[Tensor]], Tensor | None]:
        """The detections of each tile, and class probabilities if wanted."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            outputs = model.infer(images, segmentation=self.config.masks or self.segment)
            return model.detect(outputs, masks=self.config.masks), model.segment(outputs) if self.segment else None

    def most_voxels(self, model: Model, wanted: int, task: Task) -> float:
        """How many voxels the memory allows in a batch of tiles; infinite if it allows those that are wanted.

        The bytes of a voxel are measured on one patch. Without `predict.memory`, no more voxels than those of a
        training batch are always allowed: training on them took more memory.
        """
        config, device, least = self.config, self.device, voxels_of_training(task)
        if config.memory is not None:
            budget, least = config.memory * GIB, 0
        elif wanted <= least:
            return math.inf
        else:
            budget = GPU_SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else CPU_BYTES
        known, kind = _measured.setdefault(model, {}), (config.masks, self.segment, self.bf16)
        if kind not in known:
            with _Live() as live:
                self.see(model, torch.zeros((1, task.input_channels, *task.patch_size), device=device))
            known[kind] = BESIDE * live.peak / math.prod(task.patch_size)
        most = max(budget / known[kind], least)
        return math.inf if wanted <= most else most


def note(model: Model, text: str) -> None:
    """Tell the user, once for a model."""
    said = _noted.setdefault(model, set())
    if text not in said:
        said.add(text)
        logging.getLogger("boxel").warning(text)

"""Learning to segment at full resolution, and instance masks from it.

Reference: Jaeger et al., Retina U-Net, 2018, section 3.1, eq. (1).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from boxel.models.pyramid import UPyramidConfig
from boxel.nn import nd
from boxel.nn.losses import segmentation_loss
from boxel.types import Batch, Task


class Segmentation(nn.Module):
    """The 1-wide convolution `conv` of P0: logits `(b, k, *s)`, background first, then foreground or the classes.

    The pyramid applies it, composed with the convolutions before it.
    """

    def __init__(self, task: Task, config: UPyramidConfig) -> None:
        super().__init__()
        self.config = config
        self.by_class = config.segment == "classes"
        width = config.narrow_filters or config.pyramid_filters
        self.conv = nd.CONV[task.ndim](width, 1 + (len(task.classes) if self.by_class else 1), 1)

    def loss(self, logits: Float[Tensor, "b k *s"], batch: Batch) -> Float[Tensor, ""]:
        """The weighted segmentation term; 0 where no object of the batch has a mask."""
        target = segmentation_target(batch, by_class=self.by_class)
        return self.config.segmentation_weight * segmentation_loss(logits, target, self.config.segmentation_loss)


def segmentation_target(batch: Batch, *, by_class: bool) -> Int[Tensor, "b *s"]:
    """0 for background, 1 for foreground (or class + 1), -1 where an object is known by its box alone."""
    targets = []
    for label_map, instances in zip(batch.label_maps, batch.instances, strict=True):
        target = torch.zeros_like(label_map, dtype=torch.int64)
        for box in instances.boxes[~instances.has_mask]:
            lower, upper = box.floor().long().clamp(min=0), box.ceil().long().clamp(min=0)
            target[tuple(slice(int(a), int(b)) for a, b in zip(lower[0], upper[1], strict=True))] = -1
        masked = instances[instances.has_mask]
        if len(masked):
            lookup = torch.zeros(int(label_map.max()) + 1, dtype=torch.int64, device=label_map.device)
            known = masked.ids < len(lookup)
            lookup[masked.ids[known]] = masked.labels[known] + 1 if by_class else 1
            classes = lookup[label_map.long()]
            target = torch.where(classes > 0, classes, target)
        targets.append(target)
    return torch.stack(targets)

"""DetU-Net: a U-Net whose connected components are the detections (U-Net + heuristics).

Reference: Jaeger et al., Retina U-Net, 2018, section 3.2.
"""

from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from boxel.models.base import Model
from boxel.models.pyramid import Pyramid, UPyramidConfig
from boxel.models.segmentation import Segmentation
from boxel.ops import boxes_from_label_map, crop_masks
from boxel.types import Batch, Detections, Task


class DetUNetConfig(UPyramidConfig, name="det_unet"):
    """DetU-Net: a segmentation whose connected components are the detections.

    Attributes:
        score: of a component: the `max`, or the `mean`, of its class' softmax.
        connectivity: voxels of a component hang together through `faces` only, or through `corners` too.
        min_voxels: smaller components are dropped.
        min_score: components of a lower score are dropped.
        candidates: at most so many components per image and class, the largest; None keeps all.
    """

    segment: Literal["foreground", "classes"] = "classes"
    segmentation_weight: float = 1.0
    boxes_without_mask: Literal["ignore", "fill"] = "fill"
    score: Literal["max", "mean"] = "max"
    connectivity: Literal["faces", "corners"] = "faces"
    min_voxels: int = 4
    min_score: float = 0.1
    candidates: int | None = None

    def build(self, task: Task) -> "DetUNet":
        if self.segment == "foreground" and len(task.classes) > 1:
            raise ValueError(
                f"det_unet tells {len(task.classes)} classes apart by segmenting them; set model.segment=classes"
            )
        return DetUNet(task, self)


class DetUNetOutputs(NamedTuple):
    """Segmentation logits `(b, k, *s)`, background first."""

    segmentation: Tensor


class DetUNet(Model):
    """See the module. It predicts no boxes: objects that touch are one."""

    def __init__(self, task: Task, config: DetUNetConfig) -> None:
        super().__init__()
        self.config = config
        self.max_detections = task.max_detections
        self.backbone = Pyramid(task, config, outputs=())
        self.segmentation = Segmentation(task, config)

    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> DetUNetOutputs:
        _, logits = self.backbone(images, self.segmentation.conv)
        return DetUNetOutputs(logits)

    def loss(self, outputs: DetUNetOutputs, batch: Batch) -> dict[str, Tensor]:
        return {"segmentation": self.segmentation.loss(outputs.segmentation, batch)}

    @torch.no_grad()
    def detect(self, outputs: DetUNetOutputs, *, masks: bool = False) -> list[Detections]:
        return [self._components(p, masks=masks) for p in outputs.segmentation.float().softmax(1)]

    def _components(self, probabilities: Float[Tensor, "k *s"], *, masks: bool) -> Detections:
        winner = probabilities.argmax(0)
        found = [
            self._components_of(winner == channel, probabilities[channel], channel - 1, masks=masks)
            for channel in range(1, len(probabilities))
        ]
        detections = Detections.concatenate(found)
        return detections[detections.scores.argsort(descending=True, stable=True)[: self.max_detections]]

    def _components_of(self, mask: Tensor, probability: Tensor, label: int, *, masks: bool) -> Detections:
        """The connected components of one class, largest first."""
        import cc3d

        connectivity = {"faces": 2 * mask.ndim, "corners": 3**mask.ndim - 1}[self.config.connectivity]
        numbers = cc3d.connected_components(mask.cpu().numpy(), connectivity=connectivity)
        label_map = torch.from_numpy(numbers.astype(np.int64)).to(mask.device)
        flat = label_map.flatten()
        voxels = flat.bincount()
        total = torch.zeros(len(voxels), device=mask.device)
        reduce = {"max": "amax", "mean": "mean"}[self.config.score]
        scores = total.scatter_reduce(0, flat, probability.flatten(), reduce, include_self=False)
        ids = voxels[1:].argsort(descending=True, stable=True)[: self.config.candidates] + 1
        ids = ids[(voxels[ids] >= self.config.min_voxels) & (scores[ids] >= self.config.min_score)]
        boxes, _ = boxes_from_label_map(label_map, ids)
        found = Detections(boxes, scores[ids], torch.full_like(ids, label))
        if not masks:
            return found
        cells = (self.config.mask_cells,) * mask.ndim
        grids = crop_masks(label_map[None], boxes, torch.zeros_like(ids), ids, cells)
        return Detections(boxes, found.scores, found.labels, masks=grids)

    def segment(self, outputs: DetUNetOutputs) -> Tensor:
        return outputs.segmentation.float().softmax(1)

"""DetU-Net: a U-Net whose connected components are the detections (U-Net + heuristics).

Reference: Jaeger et al., Retina U-Net, 2018, section 3.2.
"""

from dataclasses import replace
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from boxel.caps import leaves_out
from boxel.models.grid import Numbers, numbers_of
from boxel.models.pyramid import PyramidConfig, PyramidModel
from boxel.models.segmentation import Segmenter, SegmentingConfig
from boxel.ops import boxes_from_label_map, crop_masks
from boxel.types import Batch, Detections, Task


class DetUNetConfig(SegmentingConfig, name="det_unet"):
    """DetU-Net: a segmentation whose connected components are the detections.

    Attributes:
        score: of a component: the `max`, or the `mean`, of its class' softmax.
        connectivity: neighbouring voxels of a component share `faces`, or at least `corners`.
        min_voxels: smaller components are dropped.
        min_score: components of a lower score are dropped.
        candidates: only the largest components are kept, this many; None keeps all.
        candidates_per: whether that many are kept of each class in an image (as in the Medical Detection Toolkit), or
            of all its classes together (as in the paper).
    """

    segment: Literal["foreground", "classes"] = "classes"
    segmentation_weight: float = 1.0
    boxes_without_mask: Literal["ignore", "fill"] = "fill"
    score: Literal["max", "mean"] = "max"
    connectivity: Literal["faces", "corners"] = "faces"
    min_voxels: int = 4
    min_score: float = 0.1
    candidates: int | None = None
    candidates_per: Literal["class", "image"] = "class"

    def build(self, task: Task) -> "DetUNet":
        return DetUNet(**numbers_of(task), config=self)


class DetUNetOutputs(NamedTuple):
    """Segmentation logits `(b, 1 + k, *s)`, background first."""

    segmentation: Tensor


class DetUNet(PyramidModel):
    """DetU-Net (Jaeger et al., 2018). It predicts no boxes, so objects that touch are one. Loss `segmentation`.

    The anchors of the grid are not used.

    Differs from the paper: the encoder has instance norm (none), and where no object has a mask, the ellipse in each
    box is learnt (the paper has masks). `mdt_lidc_3d` and the other `mdt` recipes, with `--model det_unet`, have the
    paper's settings.

    Raises:
        ValueError: several classes, but a segmentation of the foreground only.

    Example:
        >>> import torch
        >>> from boxel.models import DetUNet
        >>> model = DetUNet(ndim=2, in_channels=1, num_classes=2).eval()
        >>> outputs = model.infer(torch.rand(1, 1, 64, 64))
        >>> model.segment(outputs).shape
        torch.Size([1, 3, 64, 64])
    """

    config_class: ClassVar[type[PyramidConfig]] = DetUNetConfig
    uses_levels: ClassVar[bool] = False

    def add_heads(self, numbers: Numbers, config: DetUNetConfig) -> None:
        if config.segment == "foreground" and numbers.num_classes > 1:
            raise ValueError(
                f"det_unet distinguishes {numbers.num_classes} classes by segmenting them; set model.segment=classes"
            )
        self.config, self.numbers = config, numbers
        self.segmenter = Segmenter(numbers, self.neck.finest_channels, config)

    # It always segments, and has one phase: the arguments are there for the interface of all models.
    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> DetUNetOutputs:
        features = self.encoder(images)
        pyramid = self.neck(features)
        return DetUNetOutputs(self.segmenter(pyramid.finest))

    def loss(self, outputs: DetUNetOutputs, batch: Batch) -> dict[str, Tensor]:
        return self.segmenter.loss(outputs.segmentation, batch)

    def segment(self, outputs: DetUNetOutputs) -> Tensor:
        return self.segmenter.probabilities(outputs.segmentation)

    @torch.no_grad()
    def detect(self, outputs: DetUNetOutputs, *, masks: bool = False) -> list[Detections[Tensor]]:
        return [self._components(p, masks=masks) for p in self.segment(outputs)]

    def _components(self, probabilities: Float[Tensor, "k *s"], *, masks: bool) -> Detections[Tensor]:
        winner = probabilities.argmax(0)
        label_maps = [self._label(winner == channel) for channel in range(1, len(probabilities))]
        kept = self._largest([label_map.flatten().bincount()[1:] for label_map in label_maps])
        parts = [
            self._components_of(label_map, ids, probabilities[label + 1], label, masks=masks)
            for label, (label_map, ids) in enumerate(zip(label_maps, kept, strict=True))
        ]
        detections = Detections.concatenate(parts)
        most = self.numbers.detections_in(winner.shape)
        detections = detections[detections.scores.argsort(descending=True, stable=True)]
        return replace(detections[:most], capped=leaves_out(detections.scores, most))

    def _label(self, mask: Tensor) -> Tensor:
        """The connected components of a mask, numbered from 1."""
        import cc3d

        connectivity = {"faces": 2 * mask.ndim, "corners": 3**mask.ndim - 1}[self.config.connectivity]
        numbers = cc3d.connected_components(mask.cpu().numpy(), connectivity=connectivity)
        return torch.from_numpy(numbers.astype(np.int64)).to(mask.device)

    def _largest(self, voxels: list[Tensor]) -> list[Tensor]:
        """Per class, the ids of the components that are kept, largest first; `voxels` are their sizes."""
        most = self.config.candidates
        order = [size.argsort(descending=True, stable=True) for size in voxels]
        if self.config.candidates_per == "class":
            return [ids[:most] + 1 for ids in order]
        owner = torch.cat([torch.full_like(ids, label) for label, ids in enumerate(order)])
        sizes = torch.cat([size[ids] for size, ids in zip(voxels, order, strict=True)])
        chosen = torch.zeros_like(owner, dtype=torch.bool)
        chosen[sizes.argsort(descending=True, stable=True)[:most]] = True
        return [ids[chosen[owner == label]] + 1 for label, ids in enumerate(order)]

    def _components_of(
        self, label_map: Tensor, ids: Tensor, probability: Tensor, label: int, *, masks: bool
    ) -> Detections[Tensor]:
        """Components of one class."""
        flat = label_map.flatten()
        voxels = flat.bincount()
        total = torch.zeros(len(voxels), device=flat.device)
        reduce = {"max": "amax", "mean": "mean"}[self.config.score]
        scores = total.scatter_reduce(0, flat, probability.flatten(), reduce, include_self=False)
        ids = ids[(voxels[ids] >= self.config.min_voxels) & (scores[ids] >= self.config.min_score)]
        boxes, _ = boxes_from_label_map(label_map, ids)
        detections = Detections(boxes, scores[ids], torch.full_like(ids, label))
        if not masks:
            return detections
        cells = (self.config.mask_cells,) * label_map.ndim
        grids = crop_masks(label_map[None], boxes, torch.zeros_like(ids), ids, cells)
        return replace(detections, masks=grids)

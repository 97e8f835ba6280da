"""Two-stage detectors: Mask R-CNN, the same without masks (Faster R-CNN+), and that on a U-FPN (U-FRCNN+).

Reference: He et al., Mask R-CNN, 2017; Jaeger et al., Retina U-Net, 2018, section 3.2 and figure 3.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from boxel.config import Config
from boxel.models.base import Model
from boxel.models.dense import DenseConfig, DenseDetection, DenseOutputs
from boxel.models.postprocess import join
from boxel.models.pyramid import Pyramid, PyramidConfig, UPyramidConfig
from boxel.models.regions import RegionConfig, RegionDetection, Regions
from boxel.models.segmentation import Segmentation
from boxel.nn.blocks import Norm
from boxel.nn.roi_heads import RoIMaskHead
from boxel.ops import crop_masks
from boxel.types import Batch, Detections, Instances, Task


class RPNConfig(DenseConfig):
    """The region proposal network: one class, one tower for class and box.

    Attributes:
        anchor_step: takes every so many-th anchor of the plan; 3 keeps the base octave of Retina U-Net's nine.
        proposals: most regions handed on per image.
    """

    num_convs: int = 1
    shared_tower: bool = True
    per_level: bool = True
    candidates: int = 500
    min_score: float = 0.0
    nms_threshold: float = 0.7
    anchor_step: int = 1
    proposals: int = 200


class MaskConfig(Config):
    """The mask head.

    Attributes:
        pool_size: cells per axis that a region is pooled to, half the mask's; None: twice the boxes'.
    """

    pool_size: tuple[int, ...] | None = None
    num_convs: int = 4
    norm: Norm = "group"
    weight: float = 1.0


class FasterRCNNPlusConfig(PyramidConfig, name="faster_rcnn_plus"):
    """Faster R-CNN+: region proposals, RoIAlign, class and box head; Mask R-CNN without its mask head."""

    rpn: RPNConfig = RPNConfig()
    regions: RegionConfig = RegionConfig()

    def build(self, task: Task) -> "RCNN":
        return RCNN(task, self)


class MaskRCNNConfig(PyramidConfig, name="mask_rcnn"):
    """Mask R-CNN: region proposals, RoIAlign, class and box head, mask head."""

    rpn: RPNConfig = RPNConfig()
    regions: RegionConfig = RegionConfig()
    mask: MaskConfig = MaskConfig()
    gives_masks: ClassVar[bool] = True

    def build(self, task: Task) -> "RCNN":
        return RCNN(task, self)


class UFRCNNPlusConfig(UPyramidConfig, name="ufrcnn_plus"):
    """U-FRCNN+ (Retina U-Net 2-stage): Faster R-CNN+ on a U-FPN that learns to segment."""

    rpn: RPNConfig = RPNConfig()
    regions: RegionConfig = RegionConfig()

    def build(self, task: Task) -> "RCNN":
        return RCNN(task, self)


class RCNNOutputs(NamedTuple):
    """The detecting levels, what the RPN says of them, segmentation logits `(b, k, *s)`."""

    pyramid: list[Tensor]
    rpn: DenseOutputs
    segmentation: Tensor | None


class RCNN(Model):
    """See the module. The second stage works on what the first proposes, so it belongs to `loss` and `detect`."""

    def __init__(self, task: Task, config: FasterRCNNPlusConfig | MaskRCNNConfig | UFRCNNPlusConfig) -> None:
        super().__init__()
        channels = config.pyramid_filters
        self.backbone = Pyramid(task, config)
        self.rpn = DenseDetection(_proposal_task(task, config.rpn), channels, config.rpn)
        self.regions = RegionDetection(task, channels, config.regions)
        self.mask_head: RoIMaskHead | None = None
        self.segmentation: Segmentation | None = None
        if isinstance(config, MaskRCNNConfig):
            self.mask_weight = config.mask.weight
            self.mask_pool = config.mask.pool_size or tuple(2 * cells for cells in self.regions.pool_size)
            self.mask_head = RoIMaskHead(
                task.ndim,
                channels,
                num_convs=config.mask.num_convs,
                norm=config.mask.norm,
                outputs=self.regions.outputs,
            )
        if isinstance(config, UPyramidConfig):
            self.segmentation = Segmentation(task, config)

    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> RCNNOutputs:
        segmenter = self.segmentation if segmentation else None
        pyramid, logits = self.backbone(images, segmenter.conv if segmenter else None)
        return RCNNOutputs(pyramid, self.rpn(pyramid, images.shape[2:]), logits)

    def loss(self, outputs: RCNNOutputs, batch: Batch) -> dict[str, Tensor]:
        objects = [replace(found, labels=torch.zeros_like(found.labels)) for found in batch.instances]
        terms = {
            f"rpn_{name}": term for name, term in self.rpn.loss(outputs.rpn, replace(batch, instances=objects)).items()
        }
        proposals = self.rpn.detect(outputs.rpn)
        second, regions = self.regions.loss(outputs.pyramid, proposals, batch.instances, batch.ignored)
        terms |= second
        if self.mask_head is not None:
            terms["mask"] = self.mask_weight * self._mask_loss(self.mask_head, outputs.pyramid, regions, batch)
        if self.segmentation is not None and outputs.segmentation is not None:
            terms["segmentation"] = self.segmentation.loss(outputs.segmentation, batch)
        return terms

    def _mask_loss(self, head: RoIMaskHead, pyramid: Sequence[Tensor], regions: Regions, batch: Batch) -> Tensor:
        """Cross-entropy of the own class' mask, mean over positive regions whose object has a mask, and their cells."""
        positive = (regions.labels >= 0).nonzero()[:, 0]
        objects = Instances.concatenate(batch.instances)
        rows = positive[objects.has_mask[regions.objects[positive]]]
        if not len(rows):  # the head takes part in every step all the same, which distributed training relies on
            boxes, images = regions.boxes[:1], regions.images[:1]
            return head(self.regions.pool(pyramid, boxes, images, self.mask_pool)).sum() * 0.0
        boxes, images, ids = regions.boxes[rows], regions.images[rows], objects.ids[regions.objects[rows]]
        logits = head(self.regions.pool(pyramid, boxes, images, self.mask_pool))
        own = logits[torch.arange(len(rows), device=rows.device), regions.labels[rows] + 1]
        target = crop_masks(batch.label_maps, boxes, images, ids, own.shape[1:])
        return F.binary_cross_entropy_with_logits(own, (target >= 0.5).to(own.dtype))

    @torch.no_grad()
    def detect(self, outputs: RCNNOutputs, *, masks: bool = False) -> list[Detections]:
        found = self.regions.detect(outputs.pyramid, self.rpn.detect(outputs.rpn), outputs.rpn.shape)
        if not masks:
            return found
        if self.segmentation is not None and outputs.segmentation is not None:
            return self.segmentation.with_masks(outputs.segmentation, found)
        if self.mask_head is None:
            return found
        boxes, images = join([one.boxes for one in found])
        labels = torch.cat([one.labels for one in found])
        logits = self.mask_head(self.regions.pool(outputs.pyramid, boxes, images, self.mask_pool))
        grids = logits[torch.arange(len(labels), device=labels.device), labels + 1].sigmoid()
        return [replace(one, masks=grids[images == image]) for image, one in enumerate(found)]

    def segment(self, outputs: RCNNOutputs) -> Tensor:
        return super().segment(outputs) if outputs.segmentation is None else outputs.segmentation.float().softmax(1)


def _proposal_task(task: Task, config: RPNConfig) -> Task:
    """The task of the first stage: one class, its share of the anchors."""
    anchors = tuple(sizes[:: config.anchor_step] for sizes in task.anchors)
    return task.model_copy(update={"classes": ("object",), "anchors": anchors, "max_detections": config.proposals})

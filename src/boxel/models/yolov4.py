"""YOLOv4: a CSPDarknet, SPP and PAN, and on each level a head that predicts boxes, objectness and classes in one pass.

Reference: Bochkovskiy, Wang and Liao, YOLOv4, 2020, and its `yolov4.cfg`; box coding: Redmon and Farhadi, YOLOv3, 2018.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from boxel.config import Config
from boxel.models.anchors import LevelAnchors
from boxel.models.base import Model, refuse_masks
from boxel.models.grid import Numbers, numbers_of
from boxel.models.loss_terms import mostly_ignored
from boxel.models.postprocess import best_boxes, join
from boxel.models.pyramid import PyramidConfig, PyramidModel
from boxel.nn import BackboneConfig, CSPDarknetConfig, NeckConfig, PANConfig
from boxel.nn.blocks import Activation, Norm
from boxel.nn.heads import LevelHead
from boxel.nn.pretrained import Pretrained
from boxel.nn.pretrained.yolov4 import pretrained_yolov4
from boxel.ops import centre, iou, paired_overlap, size
from boxel.ops.boxes import MAX_LOG_RATIO
from boxel.ranges import ZeroToOne
from boxel.types import Batch, Detections, Instances, Task


class YOLOHeadsConfig(Config):
    """The heads of YOLOv4, their training targets and what is kept of their boxes.

    Attributes:
        norm: the norm after the convolution of each head.
        activation: what follows the norm.
        centre_scale: of each level, finest first, how far a centre may leave its cell: with 1 never; with 1.2 by a
            tenth of a cell on each side. Further levels have the last.
        positive: an anchor of at least this shape IoU with an object is one of the object's, in the cell of its centre;
            the object's best anchor always is.
        ignore: a box that overlaps an object more than this is not background, even if its anchor is none of the
            object's.
        box_loss: 1 minus this overlap of a predicted box and its object.
        box_weight, object_weight, class_weight: of the three losses, each the sum over an image.
        candidates: best (anchor, class) pairs that are decoded, per image; None for ten per detection that is kept
            (`max_detections`), at least 1000.
        min_score, nms_threshold: detections of a lower score, or that overlap a better one more, are dropped.
    """

    norm: Norm = "batch"
    activation: Activation = "leaky"
    centre_scale: tuple[PositiveFloat, ...] = Field((1.2, 1.1, 1.05), min_length=1)
    positive: ZeroToOne = 0.213
    ignore: ZeroToOne = 0.7
    box_loss: Literal["iou", "giou", "diou", "ciou"] = "ciou"
    box_weight: NonNegativeFloat = 0.07
    object_weight: NonNegativeFloat = 1.0
    class_weight: NonNegativeFloat = 1.0
    candidates: PositiveInt | None = None
    min_score: ZeroToOne = 0.005
    nms_threshold: ZeroToOne = 0.45


class YOLOv4Config(PyramidConfig, name="yolov4"):
    """YOLOv4: boxes, objectness and classes in one pass, on a CSPDarknet with SPP and PAN.

    Attributes:
        weights: a file of Darknet with initial weights of the whole network (`yolov4.weights`) or of its first 137
            layers (`yolov4.conv.137`), for 2D images; last layers for another number of classes start at random.
    """

    backbone: BackboneConfig = CSPDarknetConfig()
    neck: NeckConfig = PANConfig()
    dense: YOLOHeadsConfig = YOLOHeadsConfig()
    weights: str | None = None

    def build(self, task: Task) -> "YOLOv4":
        return YOLOv4(**numbers_of(task), config=self)

    def pretrained(self, model: Model) -> Pretrained | None:
        return None if self.weights is None else pretrained_yolov4(Path(self.weights), model)


class Anchors(NamedTuple):
    """The anchors of an input: `boxes (n, 2, d)`, and how far each one's centre may move, `reach (n, d)` in voxels."""

    boxes: Tensor
    reach: Tensor

    def decode(self, numbers: Float[Tensor, "*b n e"]) -> Float[Tensor, "*b n 2 d"]:
        """Boxes from a head's numbers, the first 2d of which are offsets of centre and logarithms of size."""
        ndim = self.reach.shape[-1]
        offset, growth = numbers[..., :ndim], numbers[..., ndim : 2 * ndim]
        middle = centre(self.boxes) + self.reach * (offset.sigmoid() - 0.5)
        half = size(self.boxes) * growth.clamp(max=MAX_LOG_RATIO).exp() / 2
        return torch.stack([middle - half, middle + half], -2)

    def at(self, rows: Int[Tensor, " m"]) -> "Anchors":
        return Anchors(self.boxes[rows], self.reach[rows])


class YOLOOutputs(NamedTuple):
    """`numbers (b, n, 2d + 1 + k)`: of each anchor centre, size, objectness, classes; and the images' `shape`."""

    numbers: Tensor
    anchors: Anchors
    cells: list[tuple[int, ...]]
    shape: tuple[int, ...]


class YOLOv4(PyramidModel):
    """YOLOv4 (Bochkovskiy et al., 2020), of any rank. Losses `box`, `object` and `class`.

    An anchor's score for a class is its objectness times the probability of the class.

    Differs from Darknet: objectness starts at a probability of 0.01 (0.5), which spares the burn-in its first half;
    the classes of all objects of an anchor are learnt (one of them); regions that are excluded from training are no
    background. `yolov4_3d` is the network in 3D at a quarter of the width.

    Example:
        >>> import torch
        >>> from boxel import ModelConfig
        >>> from boxel.models import CSPDarknetConfig, YOLOv4
        >>> config = ModelConfig.of_parts("yolov4", {"backbone": CSPDarknetConfig(width=0.125, depth=0.25)})
        >>> model = YOLOv4(ndim=2, in_channels=1, num_classes=2, config=config).eval()
        >>> [detections] = model(torch.rand(1, 1, 64, 64))
        >>> detections.boxes.shape[1:]
        torch.Size([2, 2])
    """

    config_class: ClassVar[type[PyramidConfig]] = YOLOv4Config
    reach: Tensor

    def add_heads(self, numbers: Numbers, config: YOLOv4Config) -> None:
        self.numbers, self.config = numbers, config.dense
        self.anchors_per_cell = len(numbers.grid.anchors[0])
        outputs = 2 * numbers.ndim + 1 + numbers.num_classes
        style: Any = {"norm": config.dense.norm, "activation": config.dense.activation}
        heads = [
            LevelHead(numbers.ndim, channels, anchors=self.anchors_per_cell, outputs=outputs, **style)
            for channels in self.neck.level_channels
        ]
        for head in heads:
            head.expect(2 * numbers.ndim, share=0.01)
        self.heads = nn.ModuleList(heads)
        self.anchors = LevelAnchors(numbers.grid)
        scales = config.dense.centre_scale
        reach = [
            [scales[min(level, len(scales) - 1)] * extent for extent in stride]
            for level, stride in enumerate(numbers.grid.level_strides)
        ]
        self.register_buffer("reach", torch.tensor(reach), persistent=False)

    # Nothing to segment and one phase: the arguments are there for the interface of all models.
    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> YOLOOutputs:
        levels = self.neck(self.encoder(images)).levels
        numbers = torch.cat([head(level) for head, level in zip(self.heads, levels, strict=True)], 1).float()
        cells = [tuple(level.shape[2:]) for level in levels]
        boxes, level_sizes = self.anchors(cells, images.device)
        reach = torch.cat([own.expand(count, -1) for own, count in zip(self.reach, level_sizes, strict=True)])
        return YOLOOutputs(numbers, Anchors(boxes, reach), cells, tuple(images.shape[2:]))

    def loss(self, outputs: YOLOOutputs, batch: Batch) -> dict[str, Tensor]:
        config, offsets = self.config, 2 * self.numbers.ndim
        boxes = outputs.anchors.decode(outputs.numbers)
        objects, owner = join([one.boxes for one in batch.instances])
        rows, index = self.match(outputs.cells, objects)
        images, labels = owner[index], torch.cat([one.labels for one in batch.instances])[index]
        logits = outputs.numbers[..., offsets:]  # objectness, classes
        wanted, counted = torch.zeros_like(logits), torch.ones_like(logits[..., 0])
        for image, one in enumerate(batch.instances):
            ignored = batch.ignored[image] if batch.ignored else one.boxes[:0]
            counted[image, self._no_background(boxes[image].detach(), one, ignored)] = 0.0
        counted[images, rows] = wanted[images, rows, 0] = wanted[images, rows, 1 + labels] = 1.0
        overlap = paired_overlap(boxes[images, rows], objects[index], kind=config.box_loss)
        terms = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        return {
            "box": config.box_weight * (1 - overlap).sum() / len(boxes),
            "object": config.object_weight * (terms[..., 0] * counted).sum() / len(boxes),
            "class": config.class_weight * (terms[..., 1:] * wanted[..., :1]).sum() / len(boxes),
        }

    @torch.no_grad()
    def match(
        self, cells: Sequence[tuple[int, ...]], boxes: Float[Tensor, "k 2 d"]
    ) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
        """The pairs of an anchor and an object that it is to predict: rows of the anchors, and rows of `boxes`.

        An object pairs with its best-shaped anchor of all levels, and with every anchor of at least `positive` shape
        IoU, each in the cell that its centre lies in.

        Args:
            cells: of each level, per axis.
            boxes: objects, of any image.
        """
        grid, device = self.numbers.grid, boxes.device
        shapes = torch.tensor(grid.anchors, device=device).flatten(0, 1)
        overlap = iou(_around_origin(size(boxes)), _around_origin(shapes))
        chosen = overlap >= self.config.positive
        chosen.scatter_(1, overlap.argmax(1, keepdim=True), True)
        index, anchor = chosen.nonzero(as_tuple=True)
        level, place = anchor // self.anchors_per_cell, anchor % self.anchors_per_cell
        last = torch.tensor(cells, device=device)[level] - 1
        steps = torch.tensor([[math.prod(shape[k + 1 :]) for k in range(len(shape))] for shape in cells], device=device)
        first = torch.tensor([0, *accumulate(map(math.prod, cells))], device=device)
        cell = (boxes.mean(1)[index] / torch.tensor(grid.level_strides, device=device)[level]).long()
        position = first[level] + (cell.clamp(min=0).minimum(last) * steps[level]).sum(1)
        return position * self.anchors_per_cell + place, index

    def _no_background(self, boxes: Tensor, objects: Instances[Tensor], ignored: Tensor) -> Bool[Tensor, " n"]:
        """Whether a predicted box lies on an object, or in a region that is excluded from training."""
        near = mostly_ignored(boxes, ignored)
        return near | (iou(boxes, objects.boxes) > self.config.ignore).any(1)

    @torch.no_grad()
    def detect(self, outputs: YOLOOutputs, *, masks: bool = False) -> list[Detections[Tensor]]:
        refuse_masks(self, masks)
        config, offsets = self.config, 2 * self.numbers.ndim
        return [
            best_boxes(
                numbers[:, offsets, None].sigmoid() * numbers[:, offsets + 1 :].sigmoid(),
                lambda rows, _, numbers=numbers: outputs.anchors.at(rows).decode(numbers[rows]),  # type: ignore[misc]
                outputs.shape,
                candidates=config.candidates,
                min_score=config.min_score,
                nms_threshold=config.nms_threshold,
                max_detections=self.numbers.detections_in(outputs.shape),
            )
            for numbers in outputs.numbers
        ]


def _around_origin(sizes: Float[Tensor, "n d"]) -> Float[Tensor, "n 2 d"]:
    return torch.stack([-sizes / 2, sizes / 2], 1)

"""L-Net: a heat map of the centres of objects, and the distances from each position to the faces of its object's box.

Reference: L-SNet, section 2.1, eq. (1) and (5).
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from boxel.caps import leaves_out
from boxel.models.components import label_components
from boxel.models.first_stage import FirstStage, FirstStageConfig
from boxel.models.grid import Numbers
from boxel.models.loss_terms import map_loss
from boxel.models.semantic_net import MapLoss, build_decoder
from boxel.nn import BackboneConfig, ResNetConfig, nd
from boxel.nn.blocks import conv_block
from boxel.nn.keypoints import boxes_at, heat_map, nearest_object, positions
from boxel.ops import clip, paired_overlap, sample_regions
from boxel.ranges import Width, ZeroToOne
from boxel.strides import level_strides
from boxel.types import Batch, Detections


class LNetConfig(FirstStageConfig, name="l_net"):
    """L-Net.

    Attributes:
        decoder: as in the second stage, down to C2 (stride 4).
        filters: width of the decoder at C2 and of the heads.
        box_kernel: width of the convolution that predicts distances, in cells.
        delta, beta: the extent of the heat map around a centre, in cells; for images of 320 voxels. They scale with the
            image: delta by the square of its size.
        class_loss: of the heat map; `focal_dice` is the focal loss with 0.2 times the Dice loss, `bce` the
            cross-entropy.
        box_weight: of 1 - DIoU of boxes, beside the loss of the heat map (lambda).
        candidates: the box from which the second stage learns is drawn from this many highest positions.
        min_score: a component of the heat map at this height or above is an object.
    """

    backbone: BackboneConfig = ResNetConfig(depth=18, start_filters=64, norm="batch")
    decoder: Literal["unet", "fcn"] = "unet"
    filters: Width = 64
    box_kernel: PositiveInt = 13
    delta: PositiveFloat = 20.0
    beta: NonNegativeFloat = 2.0
    class_loss: MapLoss = "focal_dice"
    box_weight: NonNegativeFloat = 0.5
    candidates: PositiveInt = 3
    min_score: ZeroToOne = 0.5

    @field_validator("box_kernel")
    @classmethod
    def _odd(cls, width: int) -> int:
        if width % 2 == 0:
            raise ValueError("a kernel with a cell in its middle has an odd width, such as 13")
        return width

    def build(self, numbers: Numbers, in_channels: int) -> "LNet":
        return LNet(numbers, in_channels, self)


def full_precision(x: Tensor) -> torch.autocast:
    """Without autocast: rounded to bfloat16, a distance of 300 voxels is off by up to one."""
    return torch.autocast(x.device.type, enabled=False)


class LNetOutputs(NamedTuple):
    """`logits (b, k, *cells)` of the heat map; `features (b, c, *cells)`, which the last convolution of boxes takes."""

    logits: Tensor
    features: Tensor


class LNet(FirstStage):
    """L-Net. Losses `heat` and `box`."""

    def __init__(self, numbers: Numbers, in_channels: int, config: LNetConfig) -> None:
        super().__init__()
        ndim, grid, filters, norm = numbers.ndim, numbers.grid, config.filters, config.backbone.decoder_norm
        self.config, self.numbers = config, numbers
        self.encoder = config.backbone.build(ndim, in_channels, grid.strides, full_resolution=False)
        self.decoder, self.level = build_decoder(
            config.decoder, ndim, self.encoder.channels, filters, norm, full_resolution=False
        )
        [self.stride] = level_strides(grid.strides, [self.level])

        def tower(num_convs: int) -> list[nn.Module]:
            widths = [self.decoder.channels, *[filters] * num_convs]
            return [conv_block(ndim, a, b, norm=norm) for a, b in pairwise(widths)]

        self.heat = nn.Sequential(*tower(3), nd.CONV[ndim](filters, numbers.num_classes, 1))
        kernel = config.box_kernel
        boxes = nd.CONV[ndim](filters, 2 * ndim, kernel, padding=kernel // 2)
        # Boxes start as large as the part of the heat map that regresses them, so that DIoU has a gradient.
        reach = config.beta + math.sqrt(2 * config.delta * math.log(2))
        nn.init.constant_(self.heat[-1].bias, -math.log(99))  # type: ignore[arg-type]
        nn.init.normal_(boxes.weight, std=1e-3)
        nn.init.constant_(boxes.bias, reach)  # type: ignore[arg-type]
        self.boxes = nn.Sequential(*tower(2), boxes)

    def forward(self, images: Float[Tensor, "b c *s"]) -> LNetOutputs:
        features = self.decoder(self.encoder(images)[self.level - 1 :])
        heat = self.heat(features)
        for layer in list(self.boxes)[:-1]:
            features = layer(features)
        return LNetOutputs(heat, features)

    def _boxes(self, outputs: LNetOutputs) -> Float[Tensor, "b n 2 d"]:
        """The box that each cell predicts."""
        with full_precision(outputs.features):
            distances = self.boxes[-1](outputs.features.float()).flatten(2).movedim(2, 1)
        places = positions(outputs.logits.shape[2:], self.stride, distances.new_empty(len(self.stride)))
        return boxes_at(places.flatten(0, -2).expand(len(distances), -1, -1), self._in_voxels(distances))

    def _in_voxels(self, distances: Float[Tensor, "*n o"]) -> Float[Tensor, "*n 2 d"]:
        """Distances to the lower and upper faces."""
        return distances.unflatten(-1, (2, len(self.stride))) * distances.new_tensor(self.stride)

    def _box_at(self, features: Float[Tensor, "c *cells"], cell: Float[Tensor, " d"]) -> Float[Tensor, "2 d"]:
        """The box of a position, between those of the cells around it.

        Convolution and linear interpolation commute: the features are interpolated where the kernel lies, instead of
        the distances of all cells. Both continue with zeros.
        """
        convolution: Any = self.boxes[-1]
        half = cell.new_tensor(convolution.kernel_size) / 2
        first, last = (cell - half).floor().clamp(min=0), (cell + half).floor() + 1
        window = features[(slice(None), *map(slice, first.int().tolist(), last.int().tolist()))]
        kernel = (torch.stack([cell - half, cell + half]) - first)[None]
        index = torch.zeros(1, dtype=torch.int64, device=cell.device)
        seen = sample_regions(window[None].float(), kernel, index, convolution.kernel_size).flatten(1)
        with full_precision(seen):
            distances = F.linear(seen, convolution.weight.flatten(1), convolution.bias)[0]
        return boxes_at(cell * cell.new_tensor(self.stride), self._in_voxels(distances))

    def loss(self, outputs: LNetOutputs, batch: Batch) -> dict[str, Tensor]:
        cells, config = outputs.logits.shape[2:], self.config
        targets, predicted, expected = [], [], []
        every = self._boxes(outputs)
        for boxes, instances in zip(every, batch.instances, strict=True):
            maps = [
                heat_map(
                    instances.boxes[instances.labels == label], cells, self.stride, delta=config.delta, beta=config.beta
                )
                for label in range(self.numbers.num_classes)
            ]
            targets.append(torch.stack(maps))
            positive = (targets[-1].amax(0) >= 0.5).flatten()
            nearest = nearest_object(instances.boxes, cells, self.stride).flatten()[positive]
            predicted.append(boxes[positive])
            expected.append(instances.boxes[nearest])
        overlap = paired_overlap(torch.cat(predicted), torch.cat(expected), kind="diou")
        box = (1 - overlap).mean() if len(overlap) else every.sum() * 0.0
        return {
            "heat": map_loss(
                outputs.logits,
                torch.stack(targets),
                form=config.class_loss,
                valid=self._valid(batch, torch.stack(targets)),
            ),
            "box": config.box_weight * box,
        }

    def _valid(self, batch: Batch, targets: Float[Tensor, "b k *cells"]) -> Tensor | None:
        """Cells of objects, and those outside ignored regions."""
        if not any(map(len, batch.ignored)):
            return None
        places = positions(targets.shape[2:], self.stride, targets.new_zeros(len(self.stride)))[..., None, :]
        inside = [((places >= regions[:, 0]) & (places < regions[:, 1])).all(-1).any(-1) for regions in batch.ignored]
        return (~torch.stack(inside) | (targets.amax(1) >= 0.5))[:, None]

    def propose(self, outputs: LNetOutputs) -> Float[Tensor, "b 2 d"]:
        scores = outputs.logits.detach().flatten(2)
        num = min(self.config.candidates, scores.shape[1] * scores.shape[2])
        best = scores.flatten(1).topk(num).indices
        chosen = torch.randint(num, (len(best), 1)).to(best.device)
        cell = best.gather(1, chosen)[:, 0] % scores.shape[2]
        return self._boxes(outputs)[torch.arange(len(cell), device=cell.device), cell]

    @torch.no_grad()
    def locate(self, outputs: LNetOutputs, shape: Sequence[int]) -> list[Detections[Tensor]]:
        return [
            self._in_image(heat, features, shape)
            for heat, features in zip(outputs.logits.float().sigmoid(), outputs.features, strict=True)
        ]

    def _in_image(self, heat: Tensor, features: Tensor, shape: Sequence[int]) -> Detections[Tensor]:
        parts = [self._of_class(one, features, label) for label, one in enumerate(heat)]
        located = Detections.concatenate(parts)
        boxes = clip(located.boxes, shape)
        located = replace(located, boxes=boxes)[(boxes[:, 1] > boxes[:, 0]).all(-1)]
        located = located[located.scores.argsort(descending=True, stable=True)]
        most = self.numbers.detections_in(shape)
        return replace(located[:most], capped=leaves_out(located.scores, most))

    def _of_class(self, heat: Float[Tensor, "*cells"], features: Tensor, label: int) -> Detections[Tensor]:
        """A detection at the centre of each component."""
        components = label_components(heat >= self.config.min_score).flatten()
        num = int(components.max()) + 1
        scores = heat.new_zeros(num).scatter_reduce(0, components, heat.flatten(), "amax")[1:]
        places = positions(heat.shape, 1, heat.new_empty(heat.ndim)).flatten(0, -2)
        sums = places.new_zeros((num, places.shape[1])).index_add(0, components, places)
        cells = (sums / components.bincount(minlength=num)[:, None])[1:]
        boxes = torch.stack([cells.new_zeros(2, heat.ndim), *(self._box_at(features, cell) for cell in cells)])[1:]
        return Detections(boxes, scores, torch.full((num - 1,), label, device=heat.device))

"""Detections from a segmentation: its connected components.

Reference: Jaeger et al., Retina U-Net, 2018, section 3.2 (DetU-Net).
"""

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from boxel.caps import leaves_out
from boxel.config import Config
from boxel.models.grid import Numbers
from boxel.ops import boxes_from_label_map, crop_masks
from boxel.types import Detections

Connectivity = Literal["faces", "corners", "whole"]


class ComponentsConfig(Config):
    """Which connected components of a segmentation are detections.

    Attributes:
        score: of a component: the `max`, or the `mean`, of the probability of its class.
        connectivity: neighbouring voxels of a component share `faces`, or at least `corners`; `whole` takes all voxels
            of a class for one component.
        min_voxels: smaller components are dropped.
        min_score: components of a lower score are dropped.
        candidates: only the largest components are kept, this many; None keeps all.
        candidates_per: whether that many are kept of each class in an image (as in the Medical Detection Toolkit), or
            of all its classes together (as in the paper).
        mask_cells: cells per axis of the instance masks, which lie on a grid over each object's box.
    """

    score: Literal["max", "mean"] = "max"
    connectivity: Connectivity = "faces"
    min_voxels: NonNegativeInt = 4
    min_score: float = Field(0.1, ge=0)
    candidates: PositiveInt | None = None
    candidates_per: Literal["class", "image"] = "class"
    mask_cells: PositiveInt = 28


def label_components(mask: Bool[Tensor, "*s"], connectivity: Connectivity = "faces") -> Int[Tensor, "*s"]:
    """The connected components of a mask, numbered from 1."""
    if connectivity == "whole":
        return mask.long()
    import cc3d

    neighbours = {"faces": 2 * mask.ndim, "corners": 3**mask.ndim - 1}[connectivity]
    numbers = cc3d.connected_components(mask.cpu().numpy(), connectivity=neighbours)
    return torch.from_numpy(numbers.astype(np.int64)).to(mask.device)


class Components:
    """The connected components of each class of a segmentation, as detections."""

    def __init__(self, numbers: Numbers, config: ComponentsConfig) -> None:
        self.numbers, self.config = numbers, config

    @torch.no_grad()
    def detect(self, probabilities: Float[Tensor, "b k *s"], *, masks: bool = False) -> list[Detections[Tensor]]:
        """The components where a class is the most probable one; background is the first channel."""
        return [self._in_image(image, masks=masks) for image in probabilities]

    def _in_image(self, probabilities: Float[Tensor, "k *s"], *, masks: bool) -> Detections[Tensor]:
        winner = probabilities.argmax(0)
        label_maps = [
            label_components(winner == channel, self.config.connectivity) for channel in range(1, len(probabilities))
        ]
        kept = self._largest([label_map.flatten().bincount()[1:] for label_map in label_maps])
        parts = [
            self._components_of(label_map, ids, probabilities[label + 1], label, masks=masks)
            for label, (label_map, ids) in enumerate(zip(label_maps, kept, strict=True))
        ]
        detections = Detections.concatenate(parts)
        most = self.numbers.detections_in(winner.shape)
        detections = detections[detections.scores.argsort(descending=True, stable=True)]
        return replace(detections[:most], capped=leaves_out(detections.scores, most))

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

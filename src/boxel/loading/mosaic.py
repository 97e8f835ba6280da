"""Mosaics: training images composed of parts of four images of the batch, with their objects.

The image is divided along its last two axes at a random place; each of the four parts shows a random region of another
image, of its own size: nothing is interpolated. In a batch of fewer than four images some occur more than once.

Reference: Bochkovskiy et al., YOLOv4, arXiv 2004.10934, section 3.3; the division lies between 0.2 and 0.8 of each axis
as in Darknet (`min_offset`).
"""

import itertools
from dataclasses import replace

import torch
from torch import Tensor

from boxel.ops.masks import boxes_from_label_map
from boxel.types import Batch, Instances

BORDER = 0.2


def compose(batch: Batch, probability: float, generator: torch.Generator) -> Batch:
    """The batch, of whose images each is replaced by a mosaic with the given probability."""
    if batch.label_maps is None:
        raise ValueError("the batch has no label_maps; patches of the store have them")
    images, label_maps = batch.images.clone(), batch.label_maps.clone()
    instances, ignored, cases = list(batch.instances), list(batch.ignored), list(batch.cases)
    number, shape = len(images), images.shape[2:]
    if min(shape[-2:]) < 2:
        raise ValueError(
            f"train.augment.mosaic divides the last two axes of a patch, which has {tuple(shape)} voxels; set it to 0"
        )
    for image in range(number):
        if float(torch.rand((), generator=generator)) >= probability:
            continue
        others = [other for other in torch.randperm(number, generator=generator).tolist() if other != image] or [image]
        sources = [image, *itertools.islice(itertools.cycle(others), 3)]
        places = torch.randperm(4, generator=generator).tolist()
        shares = BORDER + (1 - 2 * BORDER) * torch.rand(2, generator=generator)
        middle = [
            min(max(1, round(size * share)), size - 1) for size, share in zip(shape[-2:], shares.tolist(), strict=True)
        ]
        parts: list[Instances[Tensor]] = []
        regions: list[Tensor] = []
        last_id = 0
        for source, place in zip(sources, places, strict=True):
            target = [(0, size) for size in shape[:-2]]  # from and to, per axis
            for axis, half in enumerate((place // 2, place % 2)):
                target.append((middle[axis], shape[-2:][axis]) if half else (0, middle[axis]))
            first = [
                int(torch.randint(size - (end - begin) + 1, (), generator=generator))
                for size, (begin, end) in zip(shape, target, strict=True)
            ]
            to = tuple(slice(begin, end) for begin, end in target)
            of = tuple(slice(a, a + end - begin) for a, (begin, end) in zip(first, target, strict=True))
            images[image][(slice(None), *to)] = batch.images[source][(slice(None), *of)]
            part = batch.label_maps[source][of]
            lower, size = (batch.images.new_tensor(values) for values in (first, part.shape))
            shift = batch.images.new_tensor([begin for begin, _ in target])
            objects = batch.instances[source]
            parts.append(_part(objects, part, lower, size, shift, last_id))
            # The numbers of objects are unique in an image: those of each part follow those of the part before.
            label_maps[image][to] = torch.where(part > 0, part + last_id, 0)
            last_id += max(int(part.max()), int(objects.ids.max()) if len(objects) else 0)
            if batch.ignored:
                boxes, real = cut_boxes(batch.ignored[source] - lower, size)
                regions.append(boxes[real] + shift)
        instances[image] = Instances.concatenate(parts)
        if batch.ignored:
            ignored[image] = torch.cat(regions)
        if batch.cases:
            cases[image] = " + ".join(dict.fromkeys(batch.cases[source] for source in sources))
    return replace(
        batch, images=images, label_maps=label_maps, instances=instances, ignored=ignored, cases=tuple(cases)
    )


def cut_boxes(boxes: Tensor, patch: Tensor) -> tuple[Tensor, Tensor]:
    """The boxes cut off at the border of the patch, and which of them are not empty."""
    boxes = torch.minimum(boxes.clamp(min=0), patch)
    return boxes, (boxes[:, 1] - boxes[:, 0] > 0).all(-1)


def _part(
    objects: Instances[Tensor], label_map: Tensor, lower: Tensor, size: Tensor, shift: Tensor, last_id: int
) -> Instances[Tensor]:
    """The objects in a region of an image, moved to where it is shown; of masks, the boxes of what is seen."""
    masked, seen = boxes_from_label_map(label_map, objects.ids)
    boxes = torch.where(objects.has_mask[:, None, None], masked, objects.boxes - lower)
    boxes, real = cut_boxes(boxes, size)
    return replace(objects, boxes=boxes + shift, ids=objects.ids + last_id)[real & (seen | ~objects.has_mask)]

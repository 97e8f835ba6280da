"""Segmentation of given boxes, such as those of another detector, by a second stage."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float

from boxel.inference.raw import crop
from boxel.models.base import Model
from boxel.ops.tiling import fold_slices
from boxel.slabs import Voxels
from boxel.types import Task


def segment_given(
    models: Sequence[Model],
    image: Voxels,
    boxes: Float[np.ndarray, "n 2 d"],
    fill: float,
    task: Task,
    device: torch.device,
    planes: Callable[[np.ndarray], object],
) -> None:
    """Segment `image (c, *s)` in boxes.

    A slice-wise model segments every slice that a box overlaps.

    Args:
        boxes: in voxels of the image.
        fill: value beyond the image's border, for the neighbours of the first and the last slices.
        planes: called with the mean probabilities `(k, p, *s)` of the classes, without background, on the next planes
            of the first axis.

    Raises:
        ValueError: a model does not segment given boxes.
    """
    shape = image.shape[1:]
    lead = len(shape) - task.ndim
    patch = (1,) * lead + shape[lead:]
    for index in np.ndindex(*shape[:lead]):
        mean = np.zeros((len(task.classes), *patch), np.float32)
        on_slice = np.all((boxes[:, 0, :lead] < np.add(index, 1)) & (boxes[:, 1, :lead] > index), axis=1)
        if on_slice.any():
            lower = (*index, *(0,) * task.ndim)
            seen = fold_slices(crop(image, lower, patch, lead, task.context, fill), lead)
            images = torch.from_numpy(seen)[None].to(device)
            own = torch.from_numpy(boxes[on_slice][:, :, lead:].astype(np.float32)).to(device)
            for model in models:
                probabilities = model.segment_boxes(images, [own])[0, 1:].cpu().numpy()
                mean += probabilities.reshape(mean.shape) / len(models)
        planes(mean)

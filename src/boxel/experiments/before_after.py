"""The figure of one case before and after consolidation."""

from collections.abc import Sequence

import numpy as np

from boxel.caps import CAP_SCORE
from boxel.consolidation import RawPrediction
from boxel.reporting.drawing import BoxPanel, boxes_png
from boxel.reporting.planes import region_around
from boxel.types import Detections, Instances, rescale_boxes
from boxel.wording import counted

FAINT_FROM = 4  # views above which raw boxes are fainter, so that only boxes of many views look solid
MIN_SIDE = 128  # voxels of a slice that are shown, at least


def before_after_png(prediction: RawPrediction, image: np.ndarray, detections: Detections, objects: Instances) -> bytes:
    """One case before and after: its objects, the boxes of all views, and the detections that they become, as a PNG.

    Boxes with scores below `CAP_SCORE` are not drawn: a view has hundreds of them. Volumes are shown in the slice
    through the object that is detected best.

    Args:
        prediction: the raw boxes.
        image: `(*s)`, one channel.
        detections: in voxels of the image, like `objects`.
        objects: the ground truth.
    """
    raw = prediction.raw
    raw_boxes = rescale_boxes(raw.boxes, prediction.shape, prediction.geometry.shape)
    centre, extent = _best_object(detections, objects, image.shape)
    position = tuple(np.clip(centre[:-2].astype(int), 0, np.array(image.shape[:-2], int) - 1).tolist())
    start, stop = region_around(centre[-2:], np.full(2, max(MIN_SIDE, 6 * extent)), image.shape[-2:])

    def seen(boxes: np.ndarray) -> np.ndarray:
        """Which boxes cross the shown part of the slice."""
        middle = np.array(position) + 0.5
        within = (boxes[:, 0, :-2] < middle) & (middle < boxes[:, 1, :-2])
        inside = np.hstack([within, boxes[:, 1, -2:] > start, boxes[:, 0, -2:] < stop])
        return np.asarray(inside.all(axis=1))

    def flat(boxes: np.ndarray) -> np.ndarray:
        return boxes[..., -2:] - start

    boxes = np.asarray(objects.boxes)
    shown = flat(boxes[seen(boxes)])
    raw_seen = seen(raw_boxes) & (raw.scores >= CAP_SCORE)
    kept = seen(detections.boxes) & (detections.scores >= CAP_SCORE)
    panels = [
        BoxPanel(counted(len(shown), "object"), shown[:0], reference=shown),
        BoxPanel(
            f"{counted(raw_seen.sum(), 'box', 'boxes')} of {counted(raw.num_views, 'view')}",
            flat(raw_boxes[raw_seen]),
            raw.scores[raw_seen] * min(1, FAINT_FROM / raw.num_views),
        ),
        BoxPanel(
            counted(kept.sum(), "detection"), flat(detections.boxes[kept]), detections.scores[kept], reference=shown
        ),
    ]
    place = ", ".join(f"{index + 1} of {size}" for index, size in zip(position, image.shape, strict=False))
    title = f"{prediction.case}{f', slice {place}' if place else ''}\n"
    title += (
        f"Objects are dashed; boxes with scores of {CAP_SCORE} or more, solid where scores are high and views agree"
    )
    crop = image[position][start[0] : stop[0], start[1] : stop[1]]
    return boxes_png(crop, panels, title, prediction.geometry.spacing[-2:])


def _best_object(detections: Detections, objects: Instances, shape: Sequence[int]) -> tuple[np.ndarray, float]:
    """The centre of the object with the highest product of score and IoU, and its longest side in the slice."""
    import torch

    from boxel.ops import iou

    boxes = np.asarray(objects.boxes, np.float32)
    if len(boxes) and len(detections):
        overlaps = iou(torch.from_numpy(np.asarray(detections.boxes)), torch.from_numpy(boxes)).numpy()
        boxes = boxes[[(overlaps * detections.scores[:, None]).max(axis=0).argmax()]]
    elif len(detections):
        boxes = detections.boxes
    elif not len(boxes):
        boxes = np.array([[[0] * len(shape), shape]], np.float32)
    return boxes[0].mean(axis=0), float((boxes[0, 1] - boxes[0, 0])[-2:].max())

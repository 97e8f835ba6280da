"""On a device other than the CPU no operator goes through numpy, and tensors of two devices are not mixed.

No such device is available where tests run. Instead, a mode makes tensors on the device "meta" say that they are
there, while their numbers are in ordinary memory, and raises the errors that a GPU would raise.
"""

import pytest
import torch
from torch.overrides import TorchFunctionMode

from boxel import ops

THERE = torch.device("meta")


class Elsewhere(TorchFunctionMode):
    """Tensors moved to `THERE` say so; they refuse `numpy()` and the company of tensors of the CPU."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        given = [item for arg in (*args, *kwargs.values()) for item in _tensors(arg)]
        there = [tensor for tensor in given if getattr(tensor, "is_there", False)]
        if getattr(function, "__self__", None) is torch.Tensor.device:
            return THERE if there else torch.device("cpu")
        if name in {"numpy", "__array__"} and there:
            raise TypeError("numpy() of a tensor on a device")
        target = kwargs.get("device")
        if name in {"to", "cpu"}:
            target = (
                "cpu" if name == "cpu" else next((a for a in args[1:] if isinstance(a, torch.device | str)), target)
            )
            args = tuple(torch.device("cpu") if isinstance(a, torch.device | str) else a for a in args)
        elif name not in {"__getitem__", "__setitem__", "new_tensor", "copy_"} and there:
            strange = [tensor.shape for tensor in given if tensor.shape and not getattr(tensor, "is_there", False)]
            if strange:
                raise RuntimeError(f"{name} of tensors on two devices, one of shape {tuple(strange[0])}")
        if target is not None:
            kwargs = {key: torch.device("cpu") if key == "device" else value for key, value in kwargs.items()}
        result = function(*args, **kwargs)
        moved = bool(there) if target is None else torch.device(target) == THERE
        for tensor in _tensors(result):
            if moved or target is not None:
                tensor.is_there = moved
        return result


def _tensors(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def scores_of(boxes):
    return (boxes[:, 0, 0] * 7.3).frac().abs()


def labels_of(boxes):
    return (boxes[:, 1, 0] * 3).long() % 2


def anchors_like(boxes):
    d = boxes.shape[2]
    return ops.anchor_grid((8,) * d, (4,) * d, [[6.0] * d, [9.0] * d], device=boxes.device)


def grouped(function, **options):
    def call(boxes):
        return function(boxes, scores_of(boxes), labels=labels_of(boxes), **options)

    return call


def matched(**options):
    return lambda boxes: ops.match(anchors_like(boxes), [boxes[:5], boxes[:0]], anchors_per_cell=2, **options)


def image_like(boxes):
    """Two images of one channel, of zeros and ones."""
    d = boxes.shape[2]
    return (torch.arange(2 * 8**d, device=boxes.device).reshape(2, 1, *(8,) * d) % 3 > 0).long()


def strides(boxes):
    return [(4.0,) * boxes.shape[2]]


CALLS = {
    "area": ops.area,
    "centre": ops.centre,
    "size": ops.size,
    "clip": lambda boxes: ops.clip(boxes, (20,) * boxes.shape[2]),
    "iou": lambda boxes: ops.iou(boxes, boxes[:9]),
    "generalized_iou": lambda boxes: ops.generalized_iou(boxes, boxes[:9]),
    "distance_iou": lambda boxes: ops.distance_iou(boxes, boxes[:9]),
    "complete_iou": lambda boxes: ops.complete_iou(boxes, boxes[:9]),
    "intersection_over_foreground": lambda boxes: ops.intersection_over_foreground(boxes, boxes[:9]),
    "remove_small_boxes": lambda boxes: ops.remove_small_boxes(boxes, 5),
    "mirror": lambda boxes: ops.mirror(boxes, (20,) * boxes.shape[2], [0]),
    "rotate_quarters": lambda boxes: ops.rotate_quarters(boxes, (20,) * boxes.shape[2], 1),
    "transform": lambda boxes: ops.transform(boxes, boxes.new_ones(boxes.shape[2], boxes.shape[2] + 1)),
    "boxes_from_masks": lambda boxes: ops.boxes_from_masks(image_like(boxes)[:, 0]),
    "paired_iou": lambda boxes: ops.paired_iou(boxes, boxes.flip(0)),
    "paired_overlap": lambda boxes: ops.paired_overlap(boxes, boxes.flip(0), "ciou"),
    "encode": lambda boxes: ops.encode(boxes, boxes.flip(0)),
    "decode": lambda boxes: ops.decode(boxes / 9, boxes.flip(0)),
    "convert": lambda boxes: ops.convert(
        ops.convert(boxes, "boxel", "yolo", shape=(9,) * boxes.shape[2]), "coco", "mdt"
    ),
    "anchor_grid": anchors_like,
    "best_iou": lambda boxes: ops.best_iou(ops.size(boxes), ops.size(boxes[:3])),
    "fit_anchors": lambda boxes: ops.fit_anchors(ops.size(boxes), 3, steps=5),
    "boxes_from_label_map": lambda boxes: ops.boxes_from_label_map(boxes.long().clamp(0, 9), labels_of(boxes[:1]) + 1),
    "patch_centre_weight": lambda boxes: ops.patch_centre_weight(boxes, (0,) * boxes.shape[2], (9,) * boxes.shape[2]),
    "mean_coverage": lambda boxes: ops.mean_coverage(boxes, ((0, 9),) * boxes.shape[2], (12,) * boxes.shape[2]),
    "whole_coverage": lambda boxes: ops.whole_coverage(boxes, ((0, 9),) * boxes.shape[2], (12,) * boxes.shape[2]),
    "assign_levels": lambda boxes: ops.assign_levels(boxes, strides(boxes)),
    "assign_levels_fpn": lambda boxes: ops.assign_levels_fpn(boxes, [2, 3, 4]),
    "assign_levels_mdt": lambda boxes: ops.assign_levels_mdt(boxes, (32,) * boxes.shape[2], 4),
    "pyramid_roi_align": lambda boxes: ops.pyramid_roi_align(
        [image_like(boxes).float()], boxes, labels_of(boxes), labels_of(boxes) * 0,
        output_size=(3,) * boxes.shape[2], strides=strides(boxes),
    ),
    "roi_align": lambda boxes: ops.roi_align(
        image_like(boxes).float(), boxes, labels_of(boxes), output_size=(2,) * boxes.shape[2], stride=strides(boxes)[0]
    ),
    "crop_masks": lambda boxes: ops.crop_masks(
        image_like(boxes)[:, 0], boxes, labels_of(boxes), labels_of(boxes), (3,) * boxes.shape[2]
    ),
    "paste_mask": lambda boxes: ops.paste_mask(
        image_like(boxes)[0, 0].float(), boxes[3], (20,) * boxes.shape[2]
    )[1],
    "resample_masks": lambda boxes: ops.resample_masks(
        image_like(boxes)[:, 0].float(), boxes[:2], boxes[2:4], (3,) * boxes.shape[2]
    ),
    "paste_regions": lambda boxes: ops.paste_regions(
        image_like(boxes).float(), boxes[:2], (20,) * boxes.shape[2]
    ),
    "sample_regions": lambda boxes: ops.sample_regions(
        image_like(boxes).float(), boxes, labels_of(boxes), (3,) * boxes.shape[2]
    ),
    "scale_gradient": lambda boxes: ops.scale_gradient(boxes, 0.1),
    "nms": grouped(ops.nms, iou_threshold=0.3),
    "soft_nms": grouped(ops.soft_nms),
    "weighted_nms": grouped(ops.weighted_nms, iou_threshold=0.3),
    "weighted_box_fusion": grouped(ops.weighted_box_fusion, iou_threshold=0.3, expected_views=4),
    "weighted_box_clustering": lambda boxes: ops.weighted_box_clustering(
        boxes, scores_of(boxes), labels=labels_of(boxes), iou_threshold=0.1, expected_views=4,
        view_ids=labels_of(boxes), weights=scores_of(boxes), tiles_covering=scores_of(boxes),
    ),
    "merge_slices": lambda boxes: ops.merge_slices(
        boxes, scores_of(boxes), labels_of(boxes), labels=labels_of(boxes.flip(0)), iou_threshold=0.1, inclusive=True
    ),
    "match": matched(rule="iou", positive=0.5, negative=0.1),
    "match_iou": lambda boxes: ops.match_iou(anchors_like(boxes), boxes, positive=0.4, negative=0.1),
    "match_atss": lambda boxes: ops.match_atss([anchors_like(boxes)], boxes, anchors_per_cell=2, centre_inside=True),
    "match_centre": lambda boxes: ops.match_centre([ops.centre(boxes)], boxes, strides=strides(boxes)),
}  # fmt: skip
WITHOUT_TENSORS = {"octave_sizes", "tile_starts", "tiles"}


def test_every_operator_on_tensors_is_called():
    public = {name for name in ops.__all__ if not (name.isupper() or name[0].isupper())}
    assert CALLS.keys() == public - WITHOUT_TENSORS


@pytest.fixture
def boxes(ndim, rng):
    lower = torch.from_numpy(rng.uniform(0, 24, (60, ndim))).float()
    return torch.stack([lower, lower + torch.from_numpy(rng.uniform(3, 12, (60, ndim))).float()], 1)


@pytest.mark.parametrize("name", CALLS)
def test_an_operator_stays_on_the_device_of_its_input(name, boxes):
    here = list(_tensors(CALLS[name](boxes)))
    with Elsewhere():
        there = list(_tensors(CALLS[name](boxes.to(THERE))))
        assert all(tensor.device == THERE for tensor in there)
    assert len(here) == len(there) > 0
    for one, other in zip(here, there, strict=True):
        assert torch.allclose(one.double(), other.double(), atol=1e-5)


def test_the_mode_notices_numpy_and_mixed_devices(boxes):
    with Elsewhere():
        moved = boxes.to(THERE)
        with pytest.raises(TypeError, match="numpy"):
            (moved + 1).numpy()
        with pytest.raises(RuntimeError, match="two devices"):
            moved * torch.zeros(60, 1, 1)
        assert (moved.cpu() + torch.zeros(60, 1, 1)).device.type == "cpu"

"""Single cases of boxes, anchors, tiles, label maps and conventions."""

import numpy as np
import pytest
import torch
from scipy.cluster.vq import kmeans2

from boxel.ops.anchors import anchor_grid
from boxel.ops.boxes import clip, decode
from boxel.ops.checks import check_boxes
from boxel.ops.conventions import convert
from boxel.ops.fit import best_iou, fit_anchors
from boxel.ops.masks import boxes_from_label_map
from boxel.ops.overlaps import iou, paired_overlap
from boxel.ops.tiling import mean_coverage, tile_starts, tiles


def test_anchors_follow_the_order_of_a_heads_output():
    # A head with 2 anchors and 4 outputs per anchor on 2 x 3 cells, numbered by (cell, anchor).
    output = torch.arange(2 * 3 * 2 * 4).reshape(1, 2, 3, 2, 4).permute(0, 3, 4, 1, 2).reshape(1, 8, 2, 3)
    rows = output.reshape(1, 2, 4, 2, 3).permute(0, 3, 4, 1, 2).reshape(-1, 4)[:, 0] // 4
    anchors = anchor_grid((2, 3), (10, 20), [[2, 4], [6, 8]])
    assert rows.tolist() == list(range(12))
    assert anchors[0].tolist() == [[4, 8], [6, 12]]
    assert anchors[1].tolist() == [[2, 6], [8, 14]]
    assert anchors[2].tolist() == [[4, 28], [6, 32]]
    assert anchors[6].tolist() == [[14, 8], [16, 12]]


def test_an_inverted_or_flat_box_has_no_overlap(ndim):
    whole = torch.tensor([0.0, 4.0])[:, None].expand(1, 2, ndim)
    assert iou(whole, whole.flip(1)).item() == 0
    assert iou(whole * 0, whole * 0).item() == 0


def test_a_box_outside_the_image_is_clipped_to_nothing():
    assert clip(torch.tensor([[[-9.0, 2], [-3, 5]]]), (4, 4)).tolist() == [[[0, 2], [0, 4]]]


def test_decoding_cannot_overflow(ndim):
    anchors = torch.tensor([0.0, 4.0])[:, None].expand(1, 2, ndim)
    assert decode(torch.full((1, 2, ndim), 1e4), anchors).isfinite().all()
    half = decode(torch.full((1, 2, ndim), 6e4, dtype=torch.float16), anchors)
    assert half.isfinite().all()


def test_a_volume_is_larger_than_half_precision_holds(ndim):
    box = torch.tensor([0.0, 400.0])[:, None].expand(1, 2, ndim).half()
    assert iou(box, box).item() == 1


def test_distance_and_aspect_of_the_overlap_losses():
    a = torch.tensor([[[0.0, 0], [2, 4]]])
    b = torch.tensor([[[4.0, 0], [8, 4]]])
    assert paired_overlap(a, b, "giou").item() == pytest.approx(-(32 - 24) / 32)
    assert paired_overlap(a, b, "diou").item() == pytest.approx(-25 / 80)
    v = 4 / np.pi**2 * (np.pi / 4 - np.arctan(2)) ** 2
    assert paired_overlap(a, b, "ciou").item() == pytest.approx(-25 / 80 - v * v / (1 + v))
    # In the volume v is the mean over the pairs of axes: (1, 2) against (1, 1), (1, 4) against (1, 1), (2, 4)
    # against (1, 1); overlap 0 of 8 and 64 voxels, centres (4.5, 1, 0) apart in a hull of 7 x 4 x 4.
    c = torch.tensor([[[0.0, 0, 0], [1, 2, 4]]])
    d = torch.tensor([[[3.0, 0, 0], [7, 4, 4]]])
    angles = [np.arctan(1 / 2), np.arctan(1 / 4), np.arctan(2 / 4)]
    v = 4 / np.pi**2 * np.mean([(np.pi / 4 - angle) ** 2 for angle in angles])
    distance = (4.5**2 + 1) / (7**2 + 4**2 + 4**2)
    assert paired_overlap(c, d, "diou").item() == pytest.approx(-distance)
    assert paired_overlap(c, d, "ciou").item() == pytest.approx(-distance - v * v / (1 + v))
    with pytest.raises(ValueError, match="'eiou'"):
        paired_overlap.__wrapped__.__wrapped__(a, b, "eiou")


def test_a_tile_may_reach_beyond_a_small_image():
    assert tile_starts((50, 100), (64, 64), 16) == ((0,), (0, 36))
    assert tiles((50, 100), (64, 64), 16) == [(0, 0), (0, 36)]


def test_an_overlap_of_a_whole_patch_is_refused():
    with pytest.raises(ValueError, match=r"min_overlap is 64 on axis 1.*64"):
        tile_starts((100, 100), (80, 64), 64)


def test_coverage_of_points_and_of_boxes_beyond_the_border():
    starts = ((0, 6), (0,))
    boxes = torch.tensor(
        [[[7.0, 1], [7, 1]], [[3, 1], [3, 1]], [[16, 10], [16, 10]], [[-5, 0], [5, 9]], [[50, 50], [60, 60]]]
    )
    assert mean_coverage(boxes, starts, (10, 10)).tolist() == pytest.approx([2, 1, 1, 1, 1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32, np.int64])
def test_boxes_of_a_label_map_are_in_the_order_of_the_ids(dtype, ndim):
    label_map = np.zeros((6, 7, 8)[:ndim], dtype)
    label_map[(slice(1, 3),) * ndim] = 9
    label_map[(5,) * ndim] = 4
    boxes, present = boxes_from_label_map(label_map, np.array([9, 2, 4]))
    assert present.tolist() == [True, False, True]
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [[[1] * ndim, [3] * ndim], [[0] * ndim] * 2, [[5] * ndim, [6] * ndim]]


def test_an_empty_label_map_and_no_ids(ndim):
    label_map = np.zeros((4,) * ndim, np.uint8)
    assert boxes_from_label_map(label_map, np.zeros(0, np.int64))[0].shape == (0, 2, ndim)
    assert not boxes_from_label_map(label_map, np.array([1, 2]))[1].any()


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("coco", [3, 2, 1, 5, 4, 3]),
        ("voc", [4, 3, 2, 8, 6, 4]),
        ("nndetection", [0, 1, 4, 6, 2, 8]),
        ("mdt", [1, 2, 6, 8, 0, 4]),
        ("xyzxyz", [3, 2, 1, 8, 6, 4]),
        ("xxyyzz", [3, 8, 2, 6, 1, 4]),
        ("xyxyzz", [3, 2, 8, 6, 1, 4]),
        ("xyzwhd", [3, 2, 1, 5, 4, 3]),
        ("cccwhd", [5.5, 4, 2.5, 5, 4, 3]),
        ("yolo", [0.25, 0.1375, 0.2, 0.3, 0.125, 0.2]),
    ],
)
def test_a_volume_of_z_1_to_4_y_2_to_6_x_3_to_8_in_other_tools(name, row):
    box = torch.tensor([[[1.0, 2, 3], [4, 6, 8]]])
    written = convert(box, "boxel", name, shape=(10, 20, 40))
    assert written[0].tolist() == pytest.approx(row)
    assert convert(written.numpy(), name, "coco", shape=(10, 20, 40))[0].tolist() == pytest.approx([3, 2, 1, 5, 4, 3])


@pytest.mark.parametrize(
    ("name", "row"),
    [("coco", [3, 2, 5, 4]), ("mdt", [1, 2, 6, 8]), ("nndetection", [1, 2, 6, 8]), ("voc", [4, 3, 8, 6])],
)
def test_a_plane_of_y_2_to_6_x_3_to_8_in_other_tools(name, row):
    assert convert(torch.tensor([[[2.0, 3], [6, 8]]]), "boxel", name)[0].tolist() == row


def test_converting_explains_what_is_wrong():
    box = torch.zeros(1, 2, 3)
    with pytest.raises(ValueError, match="did you mean 'coco'"):
        convert(box, "boxel", "cocoo")
    with pytest.raises(ValueError, match="shape="):
        convert(box, "boxel", "yolo")
    with pytest.raises(ValueError, match=r"\(n, 2, d\)"):
        convert(torch.zeros(1, 6), "boxel", "coco")
    with pytest.raises(ValueError, match="'coco' must have shape"):
        convert(torch.zeros(1, 5), "coco", "boxel")


def test_fitted_anchors_suit_the_objects_better_than_k_means(ndim, rng):
    sizes = np.exp(rng.normal(2.5, 0.6, (800, 1)) + rng.normal(0, 0.25, (800, ndim))).astype(np.float32)
    fitted = fit_anchors(sizes, 6)
    means = [np.abs(kmeans2(sizes.astype(float), 6, minit="++", rng=seed)[0]) for seed in range(3)]
    k_means = max(best_iou(sizes, mean.astype(np.float32)).mean() for mean in means)
    assert fitted.shape == (6, ndim)
    assert best_iou(sizes, fitted).mean() > k_means + 0.01
    assert np.array_equal(fitted, fit_anchors(sizes, 6))


def test_fitting_more_anchors_than_objects_finds_the_objects(ndim):
    sizes = torch.tensor([[4.0] * ndim, [9.0] * ndim])
    assert best_iou(sizes, fit_anchors(sizes, 5)).min() > 0.999


def test_fitting_refuses_nothing_and_flat_objects():
    with pytest.raises(ValueError, match="0 objects"):
        fit_anchors(torch.zeros(0, 3), 2)
    with pytest.raises(ValueError, match=r"sizes\[1\]"):
        fit_anchors(torch.tensor([[1.0, 1], [0, 1]]), 2)


@pytest.mark.parametrize("shape", [(3, 4), (3, 2), (3, 3, 2), (3, 2, 2, 2)])
def test_a_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(n, 2, d\)"):
        check_boxes(torch.zeros(shape))


def test_a_column_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match=r"weights must have shape \(3,\)"):
        check_boxes(torch.zeros(3, 2, 2), weights=torch.zeros(2))

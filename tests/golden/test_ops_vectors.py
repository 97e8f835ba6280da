"""Numbers that the published toolkit gives: the MedicalDetectionToolkit, run on small inputs."""

import math

import pytest
import torch

from boxel.ops.anchors import anchor_grid, octave_sizes
from boxel.ops.boxes import decode
from boxel.ops.clustering import weighted_box_clustering
from boxel.ops.slices import merge_slices
from boxel.ops.tiling import patch_centre_weight, tile_starts


def rows(*flat: tuple[float, ...]) -> torch.Tensor:
    """Boxes written as lower corner, then upper corner."""
    return torch.tensor(flat, dtype=torch.float32).reshape(len(flat), 2, -1)


BOXES = rows((10, 10, 20, 20), (11, 10, 21, 20), (12, 12, 22, 22), (40, 40, 50, 50), (10, 10, 14, 14))
GIVEN = {
    "scores": torch.tensor([0.9, 0.8, 0.5, 0.3, 0.95]),
    "weights": torch.tensor([1.0, 0.9, 0.8, 1.0, 0.7]),
    "tiles_covering": torch.tensor([1.0, 1.0, 2.0, 1.0, 1.0]),
    "view_ids": torch.tensor([0, 1, 2, 0, 3]),
    "inclusive": True,
}
JOINED = (10.3596, 10.1133, 18.5826, 18.3363)
ALONE = (40.0, 40.0, 50.0, 50.0)


@pytest.mark.parametrize("one_vote_per_view", [True, False])
@pytest.mark.parametrize(
    ("iou_threshold", "expected_views", "scores", "boxes"),
    [
        (1e-5, 4, (0.678912, 0.075), (JOINED, ALONE)),
        (1e-5, 20, (0.135782, 0.015), (JOINED, ALONE)),
        (
            0.2,
            4,
            (0.460294, 0.232184, 0.075),
            ((10.0, 10.0, 17.4505, 17.4505), (11.2475, 10.4950, 21.2475, 20.4950), ALONE),
        ),
    ],
)
def test_weighted_box_clustering_in_2d(iou_threshold, expected_views, scores, boxes, one_vote_per_view):
    clusters = weighted_box_clustering(
        BOXES,
        iou_threshold=iou_threshold,
        expected_views=expected_views,
        one_vote_per_view=one_vote_per_view,
        **GIVEN,
    )
    assert clusters.scores.tolist() == pytest.approx(scores, abs=1e-6)
    assert torch.allclose(clusters.boxes, rows(*boxes), atol=1e-4)


def test_weighted_box_clustering_in_3d():
    clusters = weighted_box_clustering(
        rows((10, 10, 4, 20, 20, 8), (11, 10, 5, 21, 20, 9)),
        torch.tensor([0.9, 0.6]),
        view_ids=torch.tensor([0, 0]),
        one_vote_per_view=False,
        weights=torch.tensor([1.0, 0.9]),
        tiles_covering=torch.tensor([1.0, 2.0]),
        iou_threshold=1e-5,
        expected_views=4,
        inclusive=True,
    )
    assert clusters.scores.tolist() == pytest.approx([0.228032], abs=1e-6)
    assert torch.allclose(clusters.boxes, rows((10.2553, 10, 4.2553, 20.2553, 20, 8.2553)), atol=1e-4)


def test_weighted_box_clustering_weighs_by_area():
    clusters = weighted_box_clustering(
        rows((10, 10, 14, 14), (8, 8, 30, 30)),
        torch.tensor([0.9, 0.5]),
        iou_threshold=1e-5,
        expected_views=2,
        inclusive=True,
    )
    assert clusters.scores.tolist() == pytest.approx([0.7])
    assert torch.allclose(clusters.boxes, rows((9.2857, 9.2857, 19.7143, 19.7143)), atol=1e-4)


def test_slices_merge_between_gaps():
    slices = torch.tensor([23, 46, 48, 49, 50, 51, 52, 53, 56, 57])
    scores = torch.where(slices == 50, 0.9, 0.5)
    boxes = BOXES[:1].expand(10, 2, 2)
    toolkit = merge_slices(boxes, scores, slices, iou_threshold=0.1, inclusive=True)
    assert toolkit.boxes[0].tolist() == [[47, 10, 10], [54, 20, 20]]
    assert sorted(toolkit.boxes[:, :, 0].tolist()) == [[22, 24], [45, 47], [47, 54], [55, 58]]
    half_open = merge_slices(boxes, scores, slices, iou_threshold=0.1)
    assert sorted(half_open.boxes[:, :, 0].tolist()) == [[23, 24], [46, 47], [48, 54], [56, 58]]
    assert half_open.scores.tolist() == pytest.approx([0.9, 0.5, 0.5, 0.5])


def test_decoding_in_2d_with_the_toolkits_uneven_deviations():
    decoded = decode(torch.tensor([[[0.5, -0.5], [0.2, 0.1]]]), rows((10, 10, 30, 20)), [[0.1, 0.1], [0.1, 0.2]])
    assert torch.allclose(decoded, rows((10.798, 9.399, 31.202, 19.601)), atol=1e-3)


def test_decoding_in_3d():
    deltas = torch.tensor([[[0.5, -0.5, 1.0], [0.2, 0.1, -0.3]]])
    decoded = decode(deltas, rows((10, 10, 2, 30, 20, 6)))
    assert torch.allclose(decoded, rows((10.5919, 9.399, 2.5165, 31.4081, 19.601, 6.2835)), atol=1e-4)


def test_the_first_anchors_of_the_toy_data():
    anchors = anchor_grid((80, 80), (4, 4), octave_sizes(8), centred=False)
    expected = [(5.66, 2.83), (7.13, 3.56), (8.98, 4.49), (4, 4), (5.04, 5.04), (6.35, 6.35), (2.83, 5.66)]
    assert torch.allclose(anchors[:7, 1], torch.tensor(expected), atol=0.01)
    assert torch.equal(anchors[:7, 0], -anchors[:7, 1])
    assert torch.allclose(anchors[9:18] - anchors[:9], torch.tensor([0.0, 4.0]).expand(9, 2, 2), atol=1e-5)


@pytest.mark.parametrize(
    ("patch", "sizes", "count"),
    [
        ((320, 320), 9, 76_500),
        ((320, 320), 3, 25_500),
        ((288, 288), 9, 61_965),
        ((64, 128, 128), 9, 673_920),
        ((64, 128, 128), 3, 224_640),
    ],
)
def test_the_number_of_anchors(patch, sizes, count):
    strides = {2: [(s, s) for s in (4, 8, 16, 32)], 3: [(s // 4, s, s) for s in (4, 8, 16, 32)]}[len(patch)]
    total = 0
    for stride in strides:
        cells = [length // step for length, step in zip(patch, stride, strict=True)]
        total += len(anchor_grid(cells, stride, torch.ones(sizes, len(patch))))
    assert total == count


def test_octave_sizes_in_3d_pair_the_octaves_of_plane_and_depth():
    sizes = octave_sizes(8, through_plane=2)
    assert sizes[3] == (2, 8, 8)
    assert sizes[4] == pytest.approx((2.52, 10.08, 10.08), abs=0.01)
    assert sizes[2] == pytest.approx((3.17, 12.70 * math.sqrt(2), 12.70 / math.sqrt(2)), abs=0.01)


def test_the_patch_centre_factor():
    at = torch.tensor([[144.0, 144], [144, 0], [0, 0]])
    boxes = torch.stack([at - 1, at + 1], 1)
    assert patch_centre_weight(boxes, (0, 0), (288, 288)).tolist() == pytest.approx([1, 0.72892, 0.45783], abs=1e-5)
    corner = torch.tensor([[[99.0, 49, 29], [101, 51, 31]]])
    assert patch_centre_weight(corner, (100, 50, 30), (64, 128, 128)).item() == pytest.approx(0.45783, abs=1e-5)


def test_tiles_of_a_chest_ct():
    assert tile_starts((512, 512), (288, 288), 30) == ((0, 224), (0, 224))
    # The toolkit asks for 30 voxels of overlap but adds one tile at most: 20 is what it gives through-plane.
    assert tile_starts((240, 512, 512), (64, 128, 128), (20, 30, 30)) == (
        (0, 44, 88, 132, 176),
        (0, 96, 192, 288, 384),
        (0, 96, 192, 288, 384),
    )

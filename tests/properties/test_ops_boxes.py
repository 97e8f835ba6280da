"""What box geometry promises for any boxes."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boxel.ops.boxes import area, centre, clip, decode, encode, size
from boxel.ops.conventions import CONVENTIONS, convert
from boxel.ops.masks import boxes_from_label_map
from boxel.ops.matching import BACKGROUND, IGNORED, match_atss, match_centre, match_iou
from boxel.ops.overlaps import generalized_iou, iou, paired_overlap
from boxel.ops.tiling import mean_coverage, tile_starts
from strategies import RANKS, box_sets, permutations_of

two_sets = RANKS.flatmap(lambda ndim: st.tuples(box_sets(ndim), box_sets(ndim)))


@given(two_sets)
def test_iou_is_symmetric_bounded_and_one_with_itself(pair):
    a, b = pair
    result = iou(a, b)
    assert result.shape == (len(a), len(b))
    assert torch.equal(result, iou(b, a).T)
    assert ((result >= 0) & (result <= 1)).all()
    assert torch.equal(iou(a, a).diag(), torch.ones(len(a)))


@given(two_sets)
def test_iou_counts_cells_of_a_fine_grid(pair):
    a, b = (boxes[:3] for boxes in pair)
    for i, j in np.ndindex(len(a), len(b)):
        cells = np.zeros((2, *(64,) * a.shape[-1]), bool)
        for part, box in zip(cells, (a[i], b[j]), strict=True):
            part[tuple(slice(int(low), int(high)) for low, high in (box * 4).T)] = True
        assert iou(a, b)[i, j].item() == pytest.approx((cells[0] & cells[1]).sum() / (cells[0] | cells[1]).sum())


@given(two_sets)
def test_generalized_iou_lies_below_iou_and_is_equal_for_filled_hulls(pair):
    a, b = pair
    generalized = generalized_iou(a, b)
    assert (generalized <= iou(a, b) + 1e-6).all()
    assert (generalized > -1).all()
    assert torch.allclose(generalized_iou(a, a).diag(), torch.ones(len(a)))


@given(two_sets, st.sampled_from(["iou", "giou", "diou", "ciou"]))
def test_overlap_losses_have_finite_gradients_and_agree_with_pairwise_forms(pair, kind):
    a, b = pair
    count = min(len(a), len(b))
    a, b = a[:count].clone().requires_grad_(), b[:count]
    overlap = paired_overlap(a, b, kind)
    overlap.sum().backward()
    assert a.grad.isfinite().all()
    pairwise = {"iou": iou, "giou": generalized_iou}.get(kind)
    if pairwise:
        assert torch.allclose(overlap, pairwise(a, b).diag())


@given(two_sets, st.data())
def test_overlaps_commute_with_axes(pair, data):
    a, b = pair
    axes = permutations_of(data.draw, a.shape[-1])
    count = min(len(a), len(b))
    a, b = a[:count], b[:count]
    for kind in ("iou", "giou", "diou", "ciou"):
        moved = paired_overlap(a[:, :, axes] + 8, b[:, :, axes] + 8, kind)
        assert torch.allclose(paired_overlap(a, b, kind), moved, atol=1e-5)


@given(two_sets)
def test_decoding_inverts_encoding(pair):
    a, b = pair
    count = min(len(a), len(b))
    assert torch.allclose(decode(encode(a[:count], b[:count]), b[:count]), a[:count], atol=1e-3)


@given(box_sets(smallest=0))
def test_size_centre_and_area_describe_the_box(boxes):
    assert torch.equal(centre(boxes) - size(boxes) / 2, boxes[:, 0])
    assert torch.equal(area(boxes), size(boxes).prod(1))


@given(box_sets(smallest=0))
def test_clipping_is_idempotent_and_inside(boxes):
    shape = (3, 5, 7)[: boxes.shape[-1]]
    inside = clip(boxes, shape)
    assert torch.equal(clip(inside, shape), inside)
    assert (inside >= 0).all()
    assert (inside <= torch.tensor(shape)).all()


@pytest.mark.parametrize("name", CONVENTIONS)
@given(boxes=box_sets())
def test_every_convention_is_read_as_it_was_written(name, boxes):
    shape = (10, 20, 40)[: boxes.shape[-1]]
    written = convert(boxes, "boxel", name, shape=shape)
    assert written.shape == (len(boxes), 2 * boxes.shape[-1])
    assert torch.allclose(convert(written, name, "boxel", shape=shape), boxes, atol=1e-4)


@given(RANKS.flatmap(lambda ndim: st.tuples(box_sets(ndim, max_boxes=30), box_sets(ndim, max_boxes=5))))
def test_matches_do_not_depend_on_the_order_of_the_objects(pair):
    anchors, boxes = pair
    # Objects of different sizes, so that no two fit an anchor equally well.
    boxes = torch.stack([boxes[:, 0], boxes[:, 1] + torch.arange(len(boxes))[:, None] * 0.01], 1)
    backwards = boxes.flip(0)
    back = torch.cat([torch.arange(len(boxes)).flip(0), torch.tensor([IGNORED, BACKGROUND])])
    rule = {"positive": 0.5, "negative": 0.2}
    assert torch.equal(back[match_iou(anchors, backwards, **rule)], match_iou(anchors, boxes, **rule))
    assert torch.equal(back[match_atss([anchors], backwards)], match_atss([anchors], boxes))
    cells, strides = [centre(anchors)], [(2,) * anchors.shape[-1]]
    assert torch.equal(
        back[match_centre(cells, backwards, strides=strides)], match_centre(cells, boxes, strides=strides)
    )


@given(st.data(), RANKS)
def test_the_box_of_a_filled_box_is_itself(data, ndim):
    lower = data.draw(st.lists(st.integers(0, 5), min_size=ndim, max_size=ndim))
    upper = [low + data.draw(st.integers(1, 4)) for low in lower]
    label_map = torch.zeros((10,) * ndim, dtype=torch.int32)
    label_map[tuple(slice(low, high) for low, high in zip(lower, upper, strict=True))] = 7
    boxes, present = boxes_from_label_map(label_map, torch.tensor([3, 7]))
    assert present.tolist() == [False, True]
    assert boxes[1].tolist() == [lower, upper]
    assert not boxes[0].any()


@given(st.lists(st.integers(1, 80), min_size=2, max_size=3), st.integers(0, 9))
def test_tiles_cover_the_image_overlap_enough_and_touch_its_borders(shape, overlap):
    patch = (10, 16, 24)[: len(shape)]
    for starts, length, extent in zip(tile_starts(shape, patch, overlap), shape, patch, strict=True):
        assert starts[0] == 0
        assert starts[-1] + extent == max(length, extent)
        assert all(low + extent - high >= overlap for low, high in itertools.pairwise(starts))


@given(box_sets())
def test_mean_coverage_is_the_mean_of_a_count_map(boxes):
    ndim = boxes.shape[-1]
    patch, starts = (6, 5, 7)[:ndim], tile_starts((16, 16, 16)[:ndim], (6, 5, 7)[:ndim], 2)
    counts = torch.zeros((64,) * ndim)
    for corner in np.ndindex(*map(len, starts)):
        tile = [slice(4 * starts[k][i], 4 * (starts[k][i] + patch[k])) for k, i in enumerate(corner)]
        counts[tuple(tile)] += 1
    for box, coverage in zip(boxes, mean_coverage(boxes, starts, patch), strict=True):
        region = counts[tuple(slice(int(low), int(high)) for low, high in (box * 4).T)]
        assert coverage.item() == pytest.approx(region.mean().item(), rel=1e-4)

import pytest
import torch

from boxel.ops.anchors import anchor_grid, octave_sizes
from boxel.ops.boxes import centre
from boxel.ops.matching import BACKGROUND, IGNORED, match_atss, match_centre, match_iou
from boxel.ops.overlaps import iou


@pytest.fixture
def levels(ndim):
    """Two levels of three sizes per cell."""
    sizes = torch.tensor([[4.0, 6, 5], [6, 6, 6], [5, 4, 8]])[:, :ndim]
    fine = anchor_grid((8, 8, 8)[:ndim], (4, 4, 2)[:ndim], sizes)
    return [fine, anchor_grid((4, 4, 4)[:ndim], (8, 8, 4)[:ndim], sizes * 2)]


@pytest.fixture
def boxes(ndim, rng):
    lower = torch.from_numpy(rng.uniform(0, 24, (7, ndim)))
    return torch.stack([lower, lower + torch.from_numpy(rng.uniform(3, 11, (7, ndim)))], 1).float()


@pytest.mark.parametrize("force_best", [True, False])
def test_iou_matching_is_that_of_the_dense_matrix(engine, levels, boxes, force_best):
    anchors = torch.cat(levels)
    overlaps = iou(anchors, boxes)
    best, index = overlaps.max(1)
    expected = torch.where(best >= 0.4, index, torch.where(best < 0.1, BACKGROUND, IGNORED))
    if force_best:
        for k in overlaps.amax(0).argsort(stable=True):
            expected[overlaps[:, k].argmax()] = k
    result = match_iou(anchors, boxes, positive=0.4, negative=0.1, force_best=force_best)
    assert torch.equal(result, expected)
    assert (expected == IGNORED).any()
    assert (expected >= 0).any()


def test_a_forced_anchor_is_matched_with_the_object_it_was_forced_to(engine, ndim):
    # The only anchor near both objects overlaps the large one more, yet is the small one's best.
    anchors = torch.tensor([[0.0, 10], [1, 10]])[:, :, None].expand(2, 2, ndim)
    boxes = torch.tensor([[0.0, 10], [0, 4]])[:, :, None].expand(2, 2, ndim)
    assert match_iou(anchors, boxes, positive=0.3, negative=0.1).tolist() == [0, 0]
    apart = torch.tensor([[0.0, 10], [0, 9]])[:, :, None].expand(2, 2, ndim)
    result = match_iou(apart, boxes, positive=0.99, negative=0.01)
    assert result.tolist() == [0, 1]


def test_an_object_that_touches_no_anchor_is_not_forced(engine, levels, ndim):
    far = torch.full((1, 2, ndim), 900.0)
    far[:, 1] += 5
    anchors = torch.cat(levels)
    assert (match_iou(anchors, far, positive=0.5, negative=0.1) == BACKGROUND).all()
    assert (match_atss(levels, far, anchors_per_cell=3) == BACKGROUND).all()


def test_atss_is_that_of_the_dense_matrix(engine, levels, boxes):
    anchors, first = torch.cat(levels), [0, len(levels[0])]
    overlaps = iou(anchors, boxes)
    best = torch.full((len(anchors),), -1.0)
    expected = torch.full((len(anchors),), BACKGROUND)
    for k, box in enumerate(boxes):
        candidates = []
        for begin, level in zip(first, levels, strict=True):
            cells = centre(level)[::3]
            distance = (cells - centre(box)).square().sum(1)
            nearest = distance.argsort(stable=True)[:4]
            candidates += [begin + 3 * int(cell) + i for cell in nearest for i in range(3)]
        overlap = overlaps[candidates, k]
        threshold = min(overlap.mean() + overlap.std(), overlap.max())
        for row, value in zip(candidates, overlap, strict=True):
            if value >= threshold - 1e-7 and value > max(best[row], 0):
                best[row], expected[row] = value, k
    result = match_atss(levels, boxes, candidates=4, anchors_per_cell=3)
    assert torch.equal(result, expected)
    assert (result >= 0).sum() > len(boxes)


def test_atss_gives_every_object_that_touches_a_candidate_an_anchor(engine, ndim):
    # Half of the candidates do not touch: mean + deviation exceeds the largest IoU.
    anchors = torch.tensor([[0.0, 4], [4, 8]])[:, :, None].expand(2, 2, ndim)
    assert match_atss([anchors], anchors[:1], candidates=2).tolist() == [0, BACKGROUND]


def test_atss_can_require_centres_inside(engine, ndim):
    anchors = torch.tensor([[0.0, 4], [1, 5]])[:, :, None].expand(2, 2, ndim)
    box = torch.tensor([[[0.0], [2.5]]]).expand(1, 2, ndim)
    assert match_atss([anchors], box, candidates=1).tolist() == [0, BACKGROUND]
    inside = match_atss([anchors[1:]], box, candidates=1, centre_inside=True)
    assert inside.tolist() == [BACKGROUND]


def test_centre_matching_takes_the_smallest_object_around_a_cell(ndim):
    boxes = torch.tensor([[0.0, 16], [3, 9]])[:, :, None].expand(2, 2, ndim)
    cells = torch.tensor([2.0, 6, 10, 14])[:, None].expand(4, ndim)
    strides = [(4,) * ndim]
    assert match_centre([cells], boxes, strides=strides, radius=9).tolist() == [0, 1, 0, 0]
    assert match_centre([cells], boxes, strides=strides, radius=1).tolist() == [-1, 1, 0, -1]
    by_size = match_centre([cells, cells], boxes, strides=strides * 2, radius=9, size_ranges=[(0, 8), (8, 99)])
    assert by_size.tolist() == [-1, 1, -1, -1, 0, 0, 0, 0]


def test_no_objects_leave_only_background(engine, levels, ndim):
    nothing = torch.zeros(0, 2, ndim)
    anchors = torch.cat(levels)
    strides = [(4,) * ndim] * 2
    for result in (
        match_iou(anchors, nothing, positive=0.5, negative=0.1),
        match_atss(levels, nothing, anchors_per_cell=3),
        match_centre([centre(level) for level in levels], nothing, strides=strides),
    ):
        assert result.shape == (len(anchors),)
        assert result.dtype == torch.long
        assert (result == BACKGROUND).all()


def test_no_anchors_match_nothing(engine, boxes, ndim):
    assert match_iou(boxes[:0], boxes, positive=0.5, negative=0.1).shape == (0,)
    assert match_atss([boxes[:0]], boxes).shape == (0,)


def test_both_engines_agree_on_a_patch_of_a_chest_ct(rng, monkeypatch):
    levels = [
        anchor_grid((16 // k, 16 // k, 16 // k), (k, 4 * k, 4 * k), octave_sizes(8.0 * k, through_plane=2 * k))
        for k in (1, 2, 4)
    ]
    lower = torch.from_numpy(rng.uniform(0, 50, (12, 3))) / torch.tensor([4, 1, 1])
    boxes = torch.stack([lower, lower + torch.from_numpy(rng.uniform(2, 15, (12, 3)))], 1).float()

    def match():
        by_iou = match_iou(torch.cat(levels), boxes, positive=0.35, negative=0.01)
        return torch.stack([by_iou, match_atss(levels, boxes, anchors_per_cell=9)])

    compiled = match()
    monkeypatch.setattr("boxel.ops.arrays._compiled", lambda: None)
    assert torch.equal(compiled, match())

"""Matching of a batch of images that share their anchors."""

import numpy as np
import pytest
import torch

from boxel.ops import BACKGROUND, anchor_grid, centre, match, match_atss, match_centre, match_iou

RULES = {
    "iou": {"positive": 0.4, "negative": 0.1},
    "atss": {"candidates": 3},
    "centre": {"radius": 2.0},
}


@pytest.fixture
def levels(ndim):
    sizes = torch.tensor([[4.0, 6, 5], [6, 6, 6]])[:, :ndim]
    return [anchor_grid((8 // k,) * ndim, (4 * k,) * ndim, sizes * k) for k in (1, 2)]


@pytest.fixture
def images(ndim, rng):
    """Three images of 3, 0 and 6 objects."""
    lower = [torch.from_numpy(rng.uniform(0, 20, (m, ndim))) for m in (3, 0, 6)]
    return [torch.stack([low, low + torch.from_numpy(rng.uniform(3, 11, low.shape))], 1).float() for low in lower]


def options(rule, ndim):
    return RULES[rule] | ({"strides": [(4,) * ndim, (8,) * ndim]} if rule == "centre" else {})


@pytest.mark.parametrize("rule", RULES)
def test_a_batch_is_matched_like_its_images(engine, ndim, levels, images, rule):
    given = options(rule, ndim)
    one_by_one = {
        "iou": lambda boxes: match_iou(torch.cat(levels), boxes, **given),
        "atss": lambda boxes: match_atss(levels, boxes, anchors_per_cell=2, **given),
        "centre": lambda boxes: match_centre([centre(level) for level in levels], boxes, **given),
    }[rule]
    anchors, sizes = torch.cat(levels), [len(level) for level in levels]
    result = match(anchors, images, rule=rule, level_sizes=sizes, anchors_per_cell=2, **given)
    assert torch.equal(result, torch.stack([one_by_one(boxes) for boxes in images]))
    assert (result[1] == BACKGROUND).all()
    assert (result[0] >= 0).any()
    assert (result[2] >= 3).any()


def test_numpy_in_numpy_out(engine, ndim, levels, images):
    anchors, given = torch.cat(levels), {"rule": "iou", **RULES["iou"]}
    result = match(anchors.numpy(), [boxes.numpy() for boxes in images], **given)
    assert isinstance(result, np.ndarray)
    assert np.array_equal(result, match(anchors, images, **given).numpy())


def test_an_empty_batch_has_no_rows(engine, ndim, levels):
    assert match(levels[0], []).shape == (0, len(levels[0]))


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_object_is_named_with_its_image(engine, ndim, levels, images, rule):
    images[2][4, 1, 0] = float("nan")
    given = options(rule, ndim)
    with pytest.raises(ValueError, match=r"image 2: boxes\[4\].*finite"):
        match(torch.cat(levels), images, rule=rule, level_sizes=[len(level) for level in levels], **given)


@pytest.mark.parametrize("rule", RULES)
def test_an_object_without_extent_matches_nothing(engine, ndim, levels, rule):
    flat = torch.full((1, 2, ndim), 6.0)
    flat[0, 1, 1:] += 4
    anchors, sizes = torch.cat(levels), [len(level) for level in levels]
    result = match(anchors, [flat], rule=rule, level_sizes=sizes, anchors_per_cell=2, **options(rule, ndim))
    assert (result == BACKGROUND).all()


def test_of_equal_objects_the_first_is_matched(engine, ndim, levels):
    anchors = torch.cat(levels)
    twins = anchors[[7, 7, 7]]
    for rule in RULES:
        sizes = [len(level) for level in levels]
        result = match(anchors, [twins], rule=rule, level_sizes=sizes, anchors_per_cell=2, **options(rule, ndim))
        assert set(result[result >= 0].tolist()) == {0}


def test_a_small_object_wins_in_whichever_part_its_cells_are_processed(ndim, levels, images, monkeypatch):
    given = {"rule": "centre", **options("centre", ndim)}
    anchors, sizes = torch.cat(levels), [len(level) for level in levels]
    whole = match(anchors, images, level_sizes=sizes, **given)
    monkeypatch.setattr("boxel.ops.matching._PAIRS", 30)
    assert torch.equal(whole, match(anchors, images, level_sizes=sizes, **given))


def test_matching_explains_what_is_wrong(levels, images):
    anchors = levels[0]
    with pytest.raises(ValueError, match=r"level_sizes \[3\] add up to 3"):
        match(anchors, images, level_sizes=[3])
    with pytest.raises(ValueError, match=r"negative is 0\.5, positive 0\.4"):
        match(anchors, images, rule="iou", positive=0.4, negative=0.5)
    with pytest.raises(ValueError, match="candidates is no option of rule 'iou'; it takes positive, negative"):
        match(anchors, images, rule="iou", positive=0.4, negative=0.1, candidates=9)
    with pytest.raises(ValueError, match="radius is no option of rule 'atss'; it takes candidates, centre_inside"):
        match(anchors, images, radius=2.0)
    with pytest.raises(ValueError, match="negative is missing; rule 'iou' requires it"):
        match(anchors, images, rule="iou", positive=0.4)
    with pytest.raises(ValueError, match="strides is missing; rule 'centre' requires it"):
        match(anchors, images, rule="centre")
    with pytest.raises(ValueError, match="did you mean 'atss'"):
        match.__wrapped__.__wrapped__(anchors, images, rule="ats")

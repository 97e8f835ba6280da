"""What NMS and clustering promise for any boxes: order, position and axes do not matter."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boxel.ops.clustering import weighted_box_clustering, weighted_nms
from boxel.ops.fusion import weighted_box_fusion
from boxel.ops.slices import merge_slices
from boxel.ops.suppression import nms, soft_nms
from strategies import permutations_of, scored_boxes

THRESHOLDS = st.sampled_from([0.0, 1e-5, 0.1, 0.3, 0.5, 0.9])


def cluster(scored, threshold, **options):
    options = {"expected_views": 3, **options}
    return weighted_box_clustering(
        scored.boxes, scored.scores, labels=scored.labels, iou_threshold=threshold, **options
    )


def average(scored, threshold):
    return weighted_nms(scored.boxes, scored.scores, labels=scored.labels, iou_threshold=threshold)


def fuse(scored, threshold):
    return weighted_box_fusion(
        scored.boxes, scored.scores, labels=scored.labels, iou_threshold=threshold, expected_views=3
    )


def suppress(scored, threshold):
    return nms(scored.boxes, scored.scores, threshold, labels=scored.labels)


clusterings = pytest.mark.parametrize("clustering", [cluster, average, fuse])


@given(scored_boxes(), THRESHOLDS, st.data())
def test_nms_does_not_depend_on_the_order_of_the_boxes(scored, threshold, data):
    order = permutations_of(data.draw, len(scored.boxes))
    assert torch.equal(order[suppress(scored[order], threshold)], suppress(scored, threshold))


@clusterings
@given(scored=scored_boxes(), threshold=THRESHOLDS, data=st.data())
def test_clusters_do_not_depend_on_the_order_of_the_boxes(clustering, scored, threshold, data):
    order = permutations_of(data.draw, len(scored.boxes))
    one, other = clustering(scored, threshold), clustering(scored[order], threshold)
    assert torch.allclose(one.scores, other.scores)
    same = {frozenset(one.members.of(i).tolist()) for i in range(len(one.scores))}
    assert same == {frozenset(order[other.members.of(i)].tolist()) for i in range(len(other.scores))}


@clusterings
@given(scored=scored_boxes(), threshold=THRESHOLDS, data=st.data())
def test_moving_and_permuting_axes_commutes_with_clustering(clustering, scored, threshold, data):
    axes = permutations_of(data.draw, scored.boxes.shape[-1])
    moved = scored.with_boxes(scored.boxes[:, :, axes] + 4.0)
    one, other = clustering(scored, threshold), clustering(moved, threshold)
    assert torch.allclose(one.scores, other.scores)
    by_best = [result.members.rows[result.members.offsets[:-1]].argsort() for result in (one, other)]
    assert torch.allclose(one.boxes[by_best[0]][:, :, axes] + 4.0, other.boxes[by_best[1]], atol=1e-3)


@given(scored_boxes(), THRESHOLDS, st.data())
def test_moving_and_permuting_axes_leaves_nms_alone(scored, threshold, data):
    axes = permutations_of(data.draw, scored.boxes.shape[-1])
    moved = scored.with_boxes(scored.boxes[:, :, axes] + 4.0)
    assert torch.equal(suppress(moved, threshold), suppress(scored, threshold))


@clusterings
@given(scored=scored_boxes(ndim=2), threshold=THRESHOLDS)
def test_the_plane_is_a_volume_of_one_slice(clustering, scored, threshold):
    flat = clustering(scored, threshold)
    slab = torch.tensor([7.0, 8.0]).reshape(1, 2, 1).expand(len(scored.boxes), 2, 1)
    thick = clustering(scored.with_boxes(torch.cat([slab, scored.boxes], -1)), threshold)
    assert torch.equal(flat.members.rows, thick.members.rows)
    assert torch.allclose(flat.scores, thick.scores)
    assert torch.allclose(flat.boxes, thick.boxes[:, :, 1:], atol=1e-4)


@clusterings
@given(scored=scored_boxes(), threshold=THRESHOLDS)
def test_clusters_stay_within_their_members(clustering, scored, threshold):
    result = clustering(scored, threshold)
    for i, (box, score) in enumerate(zip(result.boxes, result.scores, strict=True)):
        members = result.members.of(i)
        assert (scored.labels[members] == result.labels[i]).all()
        assert (box >= scored.boxes[members].amin(0) - 1e-4).all()
        assert (box <= scored.boxes[members].amax(0) + 1e-4).all()
        assert 0 < score <= scored.scores[members].max() + 1e-6


@clusterings
@given(scored=scored_boxes(), threshold=THRESHOLDS)
def test_every_box_is_in_one_cluster(clustering, scored, threshold):
    result = clustering(scored, threshold)
    assert sorted(result.members.rows.tolist()) == list(range(len(scored.boxes)))
    assert (result.scores[:-1] >= result.scores[1:]).all()


@given(scored_boxes(), THRESHOLDS)
def test_with_all_views_present_the_score_lies_between_its_members(scored, threshold):
    result = cluster(scored, threshold, expected_views=1)
    for i, score in enumerate(result.scores):
        members = scored.scores[result.members.of(i)]
        assert members.min() - 1e-6 <= score <= members.max() + 1e-6


@given(scored_boxes())
def test_a_threshold_just_under_one_returns_distinct_boxes_unchanged(scored):
    distinct = torch.tensor([not (scored.boxes[:i] == box).all((1, 2)).any() for i, box in enumerate(scored.boxes)])
    scored = scored[distinct.nonzero()[:, 0]]
    result = cluster(scored, 1 - 1e-6, expected_views=1)
    assert torch.allclose(result.boxes, scored.boxes[result.members.rows], atol=1e-5)
    assert torch.equal(suppress(scored, 1 - 1e-6), scored.scores.argsort(descending=True))


@given(scored_boxes(), THRESHOLDS, st.integers(0, 5))
def test_stopping_early_keeps_the_first(scored, threshold, most):
    kept = nms(scored.boxes, scored.scores, threshold, labels=scored.labels, max_detections=most)
    assert torch.equal(kept, suppress(scored, threshold)[:most])


@given(scored_boxes())
def test_soft_nms_only_lowers_scores(scored):
    rows, scores = soft_nms(scored.boxes, scored.scores, labels=scored.labels, min_score=0.0)
    assert sorted(rows.tolist()) == list(range(len(scored.boxes)))
    assert (scores <= scored.scores[rows] + 1e-6).all()
    assert (scores[:-1] >= scores[1:]).all()


@given(scored_boxes(), st.lists(st.integers(0, 3), min_size=14, max_size=14), THRESHOLDS)
def test_merged_slices_are_runs_without_gaps(scored, slices, threshold):
    slices = torch.tensor(slices)[: len(scored.boxes)]
    result = merge_slices(scored.boxes, scored.scores, slices, labels=scored.labels, iou_threshold=threshold)
    assert sorted(result.members.rows.tolist()) == list(range(len(scored.boxes)))
    for i, box in enumerate(result.boxes):
        members = result.members.of(i)
        assert set(slices[members].tolist()) == set(range(int(box[0, 0]), int(box[1, 0])))
        assert torch.equal(box[:, 1:], scored.boxes[members[0]])
        assert result.scores[i] == scored.scores[members].max()

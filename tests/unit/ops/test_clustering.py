import numpy as np
import pytest
import torch

from boxel.ops.clustering import weighted_box_clustering, weighted_nms
from boxel.ops.fusion import weighted_box_fusion
from boxel.ops.overlaps import iou


def views_of_objects(rng, ndim, count=120):
    """Noisy boxes of some objects from 9 views, with everything a raw detection knows."""
    centre = rng.uniform(0, 40, (9, ndim))[rng.integers(0, 9, count)] + rng.normal(0, 1, (count, ndim))
    extent = rng.uniform(4, 12, (count, ndim))
    return {
        "boxes": torch.from_numpy(np.stack([centre - extent / 2, centre + extent / 2], 1)).float(),
        "scores": torch.from_numpy(rng.integers(1, 90, count) / 90).float(),
        "labels": torch.from_numpy(rng.integers(0, 2, count)),
        "view_ids": torch.from_numpy(rng.integers(0, 9, count)),
        "weights": torch.from_numpy(rng.uniform(0.4, 1, count)).float(),
        "tiles_covering": torch.from_numpy(rng.uniform(1, 3, count)).float(),
    }


def textbook(given, iou_threshold, expected_views, one_vote_per_view, extra):
    """Section 6.4 of the description of the method, line by line."""
    boxes, scores, labels, views, factors, coverage = (value.double().numpy() for value in given.values())
    left = sorted(range(len(boxes)), key=lambda row: (-scores[row], row))
    result = []

    def iou(a, b):
        shared = np.clip(np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]) + extra, 0, None).prod()
        return shared / ((a[1] - a[0] + extra).prod() + (b[1] - b[0] + extra).prod() - shared)

    while left:
        best = left[0]
        rows = [i for i in left if labels[i] == labels[best] and iou(boxes[best], boxes[i]) > iou_threshold]
        left = [i for i in left if i not in rows]
        distinct = len({views[i] for i in rows})
        if one_vote_per_view:
            rows = [i for n, i in enumerate(rows) if views[i] not in {views[j] for j in rows[:n]}]
        w = np.array(
            [iou(boxes[best], boxes[i]) * (boxes[i][1] - boxes[i][0] + extra).prod() * factors[i] for i in rows]
        )
        s = scores[rows]
        missing = max(0, expected_views * coverage[rows].mean() - distinct)
        score = (s * w).sum() / (w.sum() + missing * w.mean())
        box = (boxes[rows] * (s * w)[:, None, None]).sum(0) / (s * w).sum()
        result.append((score, box, labels[best], rows))
    return sorted(result, key=lambda cluster: -cluster[0])


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("one_vote_per_view", [False, True])
@pytest.mark.parametrize("iou_threshold", [1e-5, 0.3])
def test_clusters_are_those_of_the_textbook_loop(engine, ndim, rng, iou_threshold, one_vote_per_view, inclusive):
    given = views_of_objects(rng, ndim)
    result = weighted_box_clustering(
        **given,
        iou_threshold=iou_threshold,
        expected_views=5,
        one_vote_per_view=one_vote_per_view,
        inclusive=inclusive,
    )
    expected = textbook(given, iou_threshold, 5, one_vote_per_view, float(inclusive))
    assert result.scores.tolist() == pytest.approx([cluster[0] for cluster in expected], rel=1e-5)
    assert np.allclose(result.boxes, np.stack([cluster[1] for cluster in expected]), atol=1e-4)
    assert result.labels.tolist() == [cluster[2] for cluster in expected]
    assert [result.members.of(i).tolist() for i in range(len(expected))] == [cluster[3] for cluster in expected]


@pytest.mark.parametrize("world", ["torch", "numpy"])
@pytest.mark.parametrize(
    ("one_vote_per_view", "score", "upper"),
    [(False, 145 / (225 + 75), 1650 / 145), (True, 125 / (175 + 87.5), 10)],
)
def test_equation_2_of_the_paper_by_hand(engine, ndim, world, one_vote_per_view, score, upper):
    """Jaeger et al., arXiv 1811.08661, equation (2), w = f a p; three views are expected.

    Members, in the plane: 10 x 10 from view 0, w = 1 x 100 x 1; 10 x 20 from view 0, w = 0.5 x 200 x 0.5 = 50;
    10 x 10 from view 1, w = 1 x 100 x 0.75 = 75. Votes s w: 80, 20, 45. Two views are distinct, so one is missing.
    All members: (80 + 20 + 45) / (225 + 1 x 75), upper corner (10 x 80 + 20 x 20 + 10 x 45) / 145. With one vote per
    view the second does not contribute: (80 + 45) / (175 + 1 x 87.5). A further axis of 4 voxels scales all w alike.
    """
    boxes = np.zeros((3, 2, ndim), np.float32)
    boxes[:, 1] = [4] * (ndim - 2) + [10, 10]
    boxes[1, 1, -1] = 20
    columns = [boxes, np.array([0.8, 0.4, 0.6], np.float32), np.array([0, 0, 1]), np.array([1, 0.5, 0.75], np.float32)]
    if world == "torch":
        columns = [torch.from_numpy(column) for column in columns]
    boxes, scores, view_ids, weights = columns
    clusters = weighted_box_clustering(
        boxes,
        scores,
        view_ids=view_ids,
        weights=weights,
        iou_threshold=1e-5,
        expected_views=3,
        one_vote_per_view=one_vote_per_view,
    )
    assert isinstance(clusters.boxes, type(boxes))
    assert clusters.scores.tolist() == pytest.approx([score])
    assert clusters.boxes[0, 1].tolist() == pytest.approx([4] * (ndim - 2) + [10, upper])


def test_low_clusters_are_dropped_with_their_members(engine, ndim, rng):
    given = views_of_objects(rng, ndim)
    everything = weighted_box_clustering(**given, iou_threshold=0.1, expected_views=9)
    high = everything.scores > everything.scores.median()
    assert 0 < high.sum() < len(high)
    some = weighted_box_clustering(
        **given, iou_threshold=0.1, expected_views=9, min_score=everything.scores[high].min().item()
    )
    assert torch.equal(some.boxes, everything.boxes[high])
    assert len(some.members.offsets) == high.sum() + 1
    assert len(some.members.rows) == some.members.offsets[-1]


def test_without_options_each_box_is_a_view_and_weighs_by_area_and_overlap(engine):
    boxes = torch.tensor([[[0.0, 0], [10, 10]], [[0, 0], [10, 20]]])
    result = weighted_box_clustering(boxes, torch.tensor([0.8, 0.4]), iou_threshold=0.1, expected_views=4)
    # Both weigh 100: the second has twice the area and half the overlap. Two of four views are missing.
    assert result.scores.item() == pytest.approx((0.8 + 0.4) / 4)
    assert result.boxes[0, 1].tolist() == pytest.approx([10, (0.8 * 10 + 0.4 * 20) / 1.2])


def test_several_boxes_of_one_view_count_by_their_best(engine):
    boxes = torch.tensor([[0.0, 0], [10, 10]]).expand(2, 2, 2).contiguous()
    given = {"view_ids": torch.tensor([5, 5]), "iou_threshold": 0.1, "expected_views": 1}
    scores = torch.tensor([0.8, 0.2])
    assert weighted_box_clustering(boxes, scores, **given).scores.item() == pytest.approx(0.8)
    toolkit = weighted_box_clustering(boxes, scores, **given, one_vote_per_view=False)
    assert toolkit.scores.item() == pytest.approx(0.5)


def test_a_box_without_extent_stays_as_it_is(engine, ndim):
    boxes = torch.tensor([0.0, 4.0])[:, None].expand(2, 2, ndim).clone()
    boxes[1] = 2.0
    result = weighted_box_clustering(boxes, torch.tensor([0.5, 0.9]), iou_threshold=0.0, expected_views=1)
    assert torch.equal(result.boxes, boxes.flip(0))
    assert result.scores.tolist() == pytest.approx([0.9, 0.5])


def test_scores_of_zero_keep_their_boxes(engine, ndim):
    boxes = torch.tensor([0.0, 4.0])[:, None].expand(1, 2, ndim).contiguous()
    result = weighted_box_clustering(boxes, torch.zeros(1), iou_threshold=0.1, expected_views=1)
    assert torch.equal(result.boxes, boxes)


@pytest.mark.parametrize("clustering", [weighted_box_clustering, weighted_nms, weighted_box_fusion])
def test_no_boxes_give_no_clusters(engine, ndim, clustering):
    options = {} if clustering is weighted_nms else {"expected_views": 4}
    result = clustering(torch.zeros(0, 2, ndim), torch.zeros(0), iou_threshold=0.1, **options)
    assert result.boxes.shape == (0, 2, ndim)
    assert result.scores.shape == result.labels.shape == result.members.rows.shape == (0,)
    assert result.members.offsets.tolist() == [0]


def test_numpy_in_numpy_out(engine, ndim, rng):
    given = {name: value.numpy() for name, value in views_of_objects(rng, ndim).items()}
    result = weighted_box_clustering(**given, iou_threshold=0.1, expected_views=9)
    assert isinstance(result.boxes, np.ndarray)
    assert isinstance(result.members.of(0), np.ndarray)
    assert result.boxes.dtype == np.float32


def test_a_score_that_is_not_a_number_is_named(engine):
    with pytest.raises(ValueError, match=r"scores\[1\] is nan"):
        weighted_box_clustering(
            torch.rand(2, 2, 2).cumsum(1), torch.tensor([0.1, np.nan]), iou_threshold=0.1, expected_views=1
        )


def test_weighted_nms_keeps_the_best_score_and_averages_the_corners(engine):
    boxes = torch.tensor([[[0.0, 0], [10, 10]], [[0, 0], [10, 20]], [[30, 30], [40, 40]]])
    result = weighted_nms(boxes, torch.tensor([0.8, 0.4, 0.1]), iou_threshold=0.1)
    assert result.scores.tolist() == pytest.approx([0.8, 0.1])
    assert result.boxes[0, 1].tolist() == pytest.approx([10, (0.8 * 10 + 0.4 * 0.5 * 20) / 1.0])


@pytest.mark.parametrize("iou_threshold", [0.0, 0.3, 0.55])
def test_weighted_nms_is_the_textbook_loop(engine, ndim, rng, iou_threshold):
    given = views_of_objects(rng, ndim)
    boxes, scores, labels = (given[name] for name in ("boxes", "scores", "labels"))
    result = weighted_nms(boxes, scores, labels=labels, iou_threshold=iou_threshold)
    left, expected = scores.argsort(descending=True, stable=True), []
    while len(left):
        best, overlap = left[0], iou(boxes[left[:1]], boxes[left])[0]
        joins = (overlap > iou_threshold) & (labels[left] == labels[best])
        vote = (overlap * scores[left])[joins]
        mean = (boxes[left[joins]] * vote[:, None, None]).sum(0) / vote.sum()
        expected.append((mean, scores[best], labels[best], left[joins]))
        left = left[~joins]
    means, best_scores, best_labels, members = zip(*expected, strict=True)
    assert torch.allclose(result.boxes, torch.stack(means), atol=1e-3)
    assert torch.equal(result.scores, torch.stack(best_scores))
    assert torch.equal(result.labels, torch.stack(best_labels))
    assert [result.members.of(i).tolist() for i in range(len(expected))] == [rows.tolist() for rows in members]


def test_weighted_box_fusion_follows_the_moving_mean(engine):
    boxes = torch.tensor([[[0.0, 0], [10, 10]], [[0, 0], [10, 12]], [[0, 0], [10, 10]]])
    result = weighted_box_fusion(boxes, torch.tensor([0.8, 0.4, 0.6]), iou_threshold=0.55, expected_views=4)
    assert result.scores.tolist() == pytest.approx([0.6 * 3 / 4])
    assert result.boxes[0, 1].tolist() == pytest.approx([10, (0.8 * 10 + 0.4 * 12 + 0.6 * 10) / 1.8])
    assert result.members.of(0).tolist() == [0, 2, 1]


def textbook_fusion(given, iou_threshold, expected_views):
    """The published algorithm, box by box."""
    boxes, scores, labels = (given[name].double().numpy() for name in ("boxes", "scores", "labels"))
    clusters, means = [], []

    def iou(a, b):
        shared = np.clip(np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]), 0, None).prod()
        return shared / ((a[1] - a[0]).prod() + (b[1] - b[0]).prod() - shared)

    for row in sorted(range(len(boxes)), key=lambda row: (-scores[row], row)):
        overlaps = [
            iou(boxes[row], mean) * (labels[rows[0]] == labels[row]) for rows, mean in zip(clusters, means, strict=True)
        ]
        if overlaps and max(overlaps) > iou_threshold:
            result = int(np.argmax(overlaps))
            clusters[result].append(row)
        else:
            result = len(clusters)
            clusters.append([row])
            means.append(None)
        means[result] = np.average(boxes[clusters[result]], axis=0, weights=scores[clusters[result]])
    fused = [scores[rows].mean() * min(len(rows), expected_views) / expected_views for rows in clusters]
    return {rows[0]: (score, mean, rows) for score, mean, rows in zip(fused, means, clusters, strict=True)}


@pytest.mark.parametrize("iou_threshold", [0.0, 0.3, 0.55])
@pytest.mark.parametrize("count", [1, 120, 400])
def test_fused_boxes_are_those_of_the_textbook_loop(engine, ndim, rng, iou_threshold, count):
    given = views_of_objects(rng, ndim, count)
    given = {name: given[name] for name in ("boxes", "scores", "labels")}
    result = weighted_box_fusion(**given, iou_threshold=iou_threshold, expected_views=4)
    expected = textbook_fusion(given, iou_threshold, 4)
    assert len(result.scores) == len(expected)
    for i, (box, score, label) in enumerate(zip(result.boxes, result.scores, result.labels, strict=True)):
        members = result.members.of(i).tolist()
        fused, mean, rows = expected[members[0]]
        assert members == rows
        assert score.item() == pytest.approx(fused, rel=1e-5)
        assert np.allclose(box, mean, atol=1e-3)
        assert label == given["labels"][rows[0]]
    assert (result.scores[:-1] >= result.scores[1:]).all()


def test_what_just_touches_a_mean_does_not_join_it_wherever_they_lie(engine):
    """The mean of the first two ends at 2 + 2 / 7, but for rounding errors that differ from place to place."""
    edges = torch.tensor([[0.0, 2.0], [0.0, 3.0], [2 + 2 / 7, 4.0]])
    boxes = torch.stack([edges, torch.tensor([[0.0, 8.0]]).expand(3, 2)], -1)
    for place in range(40):
        result = weighted_box_fusion(
            boxes + place * 0.37, torch.tensor([0.5, 0.2, 0.1]), iou_threshold=0.0, expected_views=1
        )
        assert sorted(result.members.of(i).tolist() for i in range(2)) == [[0, 1], [2]]


def test_a_box_joins_the_first_of_equally_good_means(engine):
    apart = torch.tensor([[[0.0, 0], [4, 4]], [[4, 0], [8, 4]], [[2, 0], [6, 4]]])
    result = weighted_box_fusion(apart, torch.tensor([0.9, 0.8, 0.1]), iou_threshold=0.3, expected_views=1)
    assert sorted(result.members.of(i).tolist() for i in range(2)) == [[0, 2], [1]]


@pytest.mark.parametrize("name", ["scores", "weights", "tiles_covering"])
def test_a_negative_factor_is_named(engine, ndim, rng, name):
    given = views_of_objects(rng, ndim)
    given[name][7] = -0.5
    with pytest.raises(ValueError, match=rf"{name}\[7\] is -0\.5"):
        weighted_box_clustering(**given, iou_threshold=0.1, expected_views=9)

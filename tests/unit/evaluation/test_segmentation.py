"""Segmentations: overlaps, surface distances, means over volumes and slices, intervals over patients, comparisons."""

import json

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from boxel.evaluation import CaseSegmentation, EvaluateConfig, evaluate_segmentation, segmentation_scores
from boxel.evaluation.bootstrap import draw_groups
from boxel.evaluation.case_segmentation import score_case
from boxel.evaluation.segmentation import compare_segmentation

SHAPE = (7, 9, 11)
NONE = EvaluateConfig(protocol="segmentation", num_resamples=0)


def blob(rng, ndim, share=0.4):
    return rng.random(SHAPE[-ndim:]) < share


def surface(mask):
    """Voxels with a face on the outside, one by one."""
    padded = np.pad(mask, 1)
    voxels = []
    for voxel in np.argwhere(padded):
        around = [tuple(voxel + step * offset) for step in np.eye(mask.ndim, dtype=int) for offset in (-1, 1)]
        if not all(padded[place] for place in around):
            voxels.append(voxel - 1)
    return np.array(voxels)


def case(*classes, spacing=(1.0, 1.0, 1.0)):
    """A case of hand-written voxel counts: of each class its slices `[shared, extra, lost]`."""
    counts = np.array(classes)
    k = len(counts)
    return CaseSegmentation(counts, np.full((k, 2), np.nan), spacing, np.ones(k, np.int64), np.zeros((k, 4)))


def test_overlaps_equal_scikit_learn(ndim, rng):
    for share in (0.02, 0.3, 0.9):
        predicted, expected = blob(rng, ndim, share), blob(rng, ndim, 0.4)
        scores = segmentation_scores(predicted, expected)
        pair = (expected.ravel(), predicted.ravel())
        assert scores["DSC"] == pytest.approx(f1_score(*pair))
        assert scores["IoU"] == pytest.approx(jaccard_score(*pair))
        assert scores["precision"] == pytest.approx(precision_score(*pair, zero_division=0))
        assert scores["recall"] == pytest.approx(recall_score(*pair))


def test_surface_distances_equal_those_of_all_pairs_of_surface_voxels(ndim, rng):
    spacing = (2.5, 0.7, 1.1)[-ndim:]
    for share in (0.05, 0.5, 0.97):
        predicted, expected = blob(rng, ndim, share), blob(rng, ndim, 0.9)
        pairs = cdist(surface(predicted) * spacing, surface(expected) * spacing)
        one, other = pairs.min(axis=1), pairs.min(axis=0)
        scores = segmentation_scores(predicted, expected, spacing)
        assert scores["HD95"] == pytest.approx(max(np.percentile(one, 95), np.percentile(other, 95)))
        assert scores["mean_surface_distance"] == pytest.approx((one.sum() + other.sum()) / (len(one) + len(other)))


def test_nothing_in_either_mask_is_not_defined(ndim):
    empty = np.zeros(SHAPE[-ndim:], bool)
    assert all(np.isnan(value) for value in segmentation_scores(empty, empty).values())


@pytest.mark.parametrize("swapped", [False, True])
def test_one_empty_mask_has_overlaps_of_zero_and_no_distance(swapped, ndim):
    empty, full = np.zeros(SHAPE[-ndim:], bool), np.ones(SHAPE[-ndim:], bool)
    scores = segmentation_scores(*((full, empty) if swapped else (empty, full)))
    assert [scores[name] for name in ("DSC", "IoU", "precision", "recall")] == [0, 0, 0, 0]
    assert np.isnan([scores["HD95"], scores["mean_surface_distance"]]).all()


def test_a_cube_moved_by_a_voxel(ndim):
    """4 voxels wide, moved along the first axis of 2.5 mm: 3 of 4 planes are shared."""
    expected = np.zeros((10,) * ndim, bool)
    expected[(slice(3, 7),) * ndim] = True
    scores = segmentation_scores(np.roll(expected, 1, axis=0), expected, (2.5, 1.0, 1.0)[:ndim])
    assert scores["DSC"] == scores["precision"] == scores["recall"] == 0.75
    assert scores["IoU"] == 0.6
    assert scores["HD95"] == 2.5


def test_distances_are_in_mm_along_each_axis(ndim):
    """Two voxels apart along one axis: twice the spacing of this axis."""
    for axis, width in enumerate((3.0, 0.5, 2.0)[-ndim:]):
        masks = np.zeros((2, *(5,) * ndim), bool)
        masks[(0, *(1,) * ndim)] = True
        masks[(1, *(3 if a == axis else 1 for a in range(ndim)))] = True
        scores = segmentation_scores(*masks, (3.0, 0.5, 2.0)[-ndim:])
        assert scores["HD95"] == scores["mean_surface_distance"] == pytest.approx(2 * width)


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 3\), the ground truth \(3, 4\)"):
        segmentation_scores(np.ones((3, 3)), np.ones((3, 4)))


def test_each_class_and_slice_is_counted_alone(ndim):
    predicted, expected = (np.zeros((4,) * ndim, np.uint8) for _ in range(2))
    expected[1, 1], predicted[1, 1:3], predicted[2, 0] = 1, 1, 2
    scores = score_case(predicted, expected, 2, (1.0,) * ndim)
    width = 4 ** (ndim - 2)
    if ndim == 2:
        assert scores.counts.tolist() == [[[1, 1, 0]], [[0, 1, 0]]]
    else:
        none = [0, 0, 0]
        assert scores.counts.tolist() == [[none, [width, width, 0], none, none], [none, none, [0, width, 0], none]]


def test_means_are_over_volumes_over_slices_with_the_object_and_over_slices():
    """Slices of a: DSC 1, 0 (missed), 0 (extra), undefined; of b: 0.5."""
    cases = {"a": case([[4, 0, 0], [0, 0, 4], [0, 4, 0], [0, 0, 0]]), "b": case([[1, 1, 1]])}
    metrics = evaluate_segmentation(cases, classes=["x"], config=NONE).metrics
    assert metrics["DSC"] == pytest.approx((8 / 16 + 2 / 4) / 2)
    assert metrics["DSC/slices_with_object"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert metrics["DSC/slices"] == pytest.approx((1 + 0 + 0 + 0.5) / 4)
    assert metrics["IoU/slices_with_object"] == pytest.approx((1 + 0 + 1 / 3) / 3)
    assert metrics["precision"] == metrics["recall"] == 0.5
    assert metrics["num_undefined/DSC/slices"] == 1
    assert metrics["num_undefined/DSC"] == 0
    assert metrics["num_undefined/HD95"] == 2
    assert (metrics["no_region"], metrics["no_region/slices"]) == (0, 1)
    assert (metrics["num_slices"], metrics["num_slices_with_object"]) == (5, 3)


def test_thirds_are_those_of_slices_by_the_area_of_the_object_in_mm():
    """Six slices with an object, of 1 to 6 voxels; those of b are four times as large in mm."""

    def found(size, share):
        return [int(size * share), 0, size - int(size * share)]

    a = case([found(1, 1), found(2, 0.5), found(3, 0), [0, 9, 0]])
    b = case([found(4, 0.5), found(5, 1), found(6, 1)], spacing=(1.0, 2.0, 2.0))
    metrics = evaluate_segmentation({"a": a, "b": b}, classes=["x"], config=NONE).metrics
    assert metrics["DSC/slices_small"] == pytest.approx((1 + 2 / 3) / 2)
    assert metrics["DSC/slices_medium"] == pytest.approx((0 + 2 / 3) / 2)
    assert metrics["DSC/slices_large"] == 1
    one = evaluate_segmentation({"a": case([found(5, 1)])}, classes=["x"], config=NONE).metrics
    assert (one["DSC/slices_small"], one["DSC/slices_medium"], one["DSC/slices_large"]) == (1, None, None)


def test_a_class_without_voxels_is_left_out_of_the_mean_over_classes():
    cases = {"a": case([[1, 0, 0]], [[0, 0, 0]]), "b": case([[0, 0, 3]], [[0, 0, 0]])}
    metrics = evaluate_segmentation(cases, classes=["x", "y"], config=NONE).metrics
    assert metrics["DSC"] == metrics["DSC/x"] == 0.5
    assert metrics["DSC/y"] is None
    assert metrics["absent_classes"] == ["y"]
    assert (metrics["num_undefined/DSC/y"], metrics["no_region/x"]) == (2, 1)


def made_up(rng, better=0):
    """Ten patients with one to three volumes of one to five slices."""
    cases, groups = {}, {}
    for patient in range(10):
        for scan in range(rng.integers(1, 4)):
            counts = rng.integers(0, 9, (1, rng.integers(1, 6), 3))
            counts[..., 0] += better
            cases[f"{patient}_{scan}"], groups[f"{patient}_{scan}"] = case(*counts), f"p{patient}"
    return cases, groups


def test_resamples_draw_patients_and_the_interval_spans_their_quantiles(rng):
    cases, groups = made_up(rng)
    evaluation = evaluate_segmentation(cases, classes=["x"], groups=groups)
    values = []
    for weights in draw_groups(10, 1000, 0):
        drawn = [name for name in cases for _ in range(int(weights[int(name[0])]))]
        totals = [cases[name].counts.sum(axis=(0, 1)) for name in drawn]
        values.append(np.mean([2 * s / (2 * s + e + m) for s, e, m in totals]))
    np.testing.assert_allclose(evaluation.resamples["DSC"][:, 0], values)
    low, high = evaluation.metrics["DSC/ci95"]
    assert low < np.quantile(values, 0.1) < evaluation.metrics["DSC"] < np.quantile(values, 0.9) < high


def test_a_set_compared_with_itself_does_not_differ(rng):
    cases, groups = made_up(rng)
    result = compare_segmentation(cases, cases, classes=["x"], groups=groups)
    for name in ("DSC", "DSC/slices_with_object", "IoU", "recall/slices"):
        values = result["metrics"][name]
        assert (values["difference"], values["p"], values["ci95"]) == (0, 1, [0, 0])


def test_a_comparison_has_the_thirds_of_each_set(rng):
    """Of five slices one differs, that of 400: swapped or not, the difference is as large, so that p is 1."""
    sizes, worse = [100, 200, 300, 400, 500], [0, 0, 0, 200, 0]
    a, b = (
        {f"{n}": case([[n - lost, 0, lost]]) for n, lost in zip(sizes, losses, strict=True)}
        for losses in (worse, [0] * 5)
    )
    result = compare_segmentation(a, b, classes=["x"])["metrics"]
    for third in ("small", "medium", "large"):
        values = result[f"DSC/slices_{third}"]
        assert values["p"] == 1
    assert result["DSC/slices_medium"]["difference"] == pytest.approx((1 - 2 / 3) / 2)


def test_a_better_set_is_recognised(rng):
    state = rng.bit_generator.state
    worse, groups = made_up(rng)
    rng.bit_generator.state = state
    better, _ = made_up(rng, better=4)
    values = compare_segmentation(worse, better, classes=["x"], groups=groups)["metrics"]["DSC"]
    alone = [evaluate_segmentation(one, classes=["x"], config=NONE).metrics["DSC"] for one in (worse, better)]
    assert [values["a"], values["b"]] == pytest.approx(alone)
    assert values["ci95"][0] > 0
    assert values["p"] < 0.01


def test_metrics_are_ready_for_json(rng):
    cases, groups = made_up(rng)
    json.dumps(evaluate_segmentation(cases, classes=["x"], groups=groups).metrics, allow_nan=False)


def test_only_patients_with_a_value_count_for_an_interval(rng):
    """Of 20 patients one has the class y: its value has no interval, alone and in a comparison."""
    cases = {str(k): case([[5, 1 + k % 3, 1]], [[4, k == 0, 0] if k < 1 else [0, 0, 0]]) for k in range(20)}
    metrics = evaluate_segmentation(cases, classes=["x", "y"]).metrics
    assert (metrics["DSC/y"], metrics["DSC/y/ci95"]) == (pytest.approx(8 / 9), None)
    assert metrics["DSC/x/ci95"] is not None
    better = cases | {"0": case([[6, 0, 0]], [[4, 0, 0]])}
    compared = compare_segmentation(cases, better, classes=["x", "y"])["metrics"]
    assert (compared["DSC/y"]["difference"], compared["DSC/y"]["ci95"]) == (pytest.approx(1 / 9), None)
    two = cases | {"1": case([[5, 1, 1]], [[1, 1, 0]])}
    low, high = evaluate_segmentation(two, classes=["x", "y"]).metrics["DSC/y/ci95"]
    assert (low, high) == (pytest.approx(2 / 3), pytest.approx(8 / 9))

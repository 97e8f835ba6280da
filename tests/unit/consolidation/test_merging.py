import numpy as np
import pytest

from boxel.consolidation import ConsolidateConfig, consolidate
from boxel.recipes import get_recipe
from boxel.types import Geometry, RawDetections

JOINING = ["wbc", "nms", "weighted_nms", "wbf"]
METHODS = pytest.mark.parametrize("method", [*JOINING, "soft_nms"])


def raw(boxes, scores, *, views=None, tiles=None, labels=None, num_views=1, slice_axes=0) -> RawDetections:
    count = len(scores)
    zeros = np.zeros(count, np.int64)
    return RawDetections(
        np.asarray(boxes, np.float32),
        np.asarray(scores, np.float32),
        zeros if labels is None else np.asarray(labels),
        zeros if views is None else np.asarray(views),
        zeros if tiles is None else np.asarray(tiles),
        np.ones(count, np.float32),
        np.ones(count, np.float32),
        num_views,
        slice_axes,
    )


def cube(lower, upper, ndim):
    return np.stack([np.full(ndim, lower), np.full(ndim, upper)])


@pytest.mark.parametrize("method", JOINING)
def test_views_of_one_object_become_one_detection(ndim, method):
    boxes = [cube(4, 10, ndim), cube(4.5, 10.5, ndim), cube(30, 36, ndim)]
    detections = consolidate(raw(boxes, [0.9, 0.8, 0.6], views=[0, 1, 0]), ConsolidateConfig(method=method))
    assert len(detections) == 2
    assert detections.boxes[0].min() >= 4
    assert detections.boxes[0].max() <= 10.5
    assert (detections.scores[:-1] >= detections.scores[1:]).all()


def test_an_object_that_half_the_views_missed_loses_half_its_score(ndim):
    detections = consolidate(raw([cube(4, 10, ndim)] * 2, [0.8, 0.8], views=[0, 1], num_views=4))
    assert detections.scores.tolist() == pytest.approx([0.4])


@pytest.mark.parametrize(("one_vote_per_view", "score"), [(True, 0.8), (False, 0.5)])
def test_whether_all_boxes_of_a_view_vote_is_a_setting(ndim, one_vote_per_view, score):
    config = ConsolidateConfig(one_vote_per_view=one_vote_per_view)
    detections = consolidate(raw([cube(4, 10, ndim)] * 2, [0.8, 0.2], views=[0, 0], tiles=[3, 3]), config)
    assert detections.scores.tolist() == pytest.approx([score])


def test_the_papers_recipes_sum_over_all_members():
    assert not get_recipe("mdt_toy").consolidate.one_vote_per_view
    assert not get_recipe("mdt_lidc_3d").consolidate.one_vote_per_view
    assert get_recipe("retina_unet_small").consolidate.one_vote_per_view


def test_tiles_of_one_view_are_different_passes(ndim):
    twice = raw([cube(4, 10, ndim)] * 2, [0.8, 0.8], views=[0, 0], tiles=[0, 1], num_views=1)
    twice = RawDetections(**{**vars(twice), "coverage": np.full(2, 2, np.float32)})
    assert consolidate(twice).scores.tolist() == pytest.approx([0.8])


@METHODS
def test_touching_objects_stay_apart(ndim, method):
    config = ConsolidateConfig(method=method, iou_threshold=0.0)
    assert len(consolidate(raw([cube(0, 4, ndim), cube(4, 8, ndim)], [0.9, 0.8]), config)) == 2


@METHODS
def test_low_scores_and_surplus_are_dropped(ndim, method):
    boxes = [cube(20 * i, 20 * i + 5, ndim) for i in range(4)]
    config = ConsolidateConfig(method=method, min_score=0.2, max_detections=2)
    detections = consolidate(raw(boxes, [0.1, 0.5, 0.7, 0.3]), config)
    assert detections.scores.tolist() == pytest.approx([0.7, 0.5])


@METHODS
def test_no_detections_are_a_result(ndim, method):
    geometry = Geometry.plain((8,) * ndim)
    detections = consolidate(raw(np.zeros((0, 2, ndim)), []), ConsolidateConfig(method=method), geometry=geometry)
    assert detections.boxes.shape == (0, 2, ndim)
    assert detections.geometry == geometry


def test_boxes_of_a_prepared_image_are_scaled_to_the_original(ndim):
    geometry = Geometry.plain((40,) * ndim)
    detections = consolidate(raw([cube(4, 10, ndim)], [0.9]), geometry=geometry, shape=(20,) * ndim)
    assert np.array_equal(detections.boxes, [cube(8, 20, ndim)])
    with pytest.raises(ValueError, match="without geometry"):
        consolidate(raw([cube(4, 10, ndim)], [0.9]), shape=(20,) * ndim)


def test_boxes_without_extent_are_dropped(ndim):
    assert len(consolidate(raw([cube(4, 4, ndim), cube(5, 9, ndim)], [0.9, 0.4]))) == 1


@METHODS
def test_classes_do_not_mix(ndim, method):
    detections = consolidate(raw([cube(4, 10, ndim)] * 2, [0.9, 0.8], labels=[0, 1]), ConsolidateConfig(method=method))
    assert detections.labels.tolist() == [0, 1]


@METHODS
def test_boxes_of_adjacent_slices_become_a_box_of_the_volume(method):
    slices = [3, 4, 5, 9]
    boxes = [[[z, 10, 10], [z + 1, 20, 20]] for z in slices] * 2
    scores, views = [0.5, 0.9, 0.6, 0.7] * 2, [0] * 4 + [1] * 4
    detections = consolidate(
        raw(boxes, scores, views=views, num_views=2, slice_axes=1), ConsolidateConfig(method=method)
    )
    assert detections.boxes.tolist() == [[[3, 10, 10], [6, 20, 20]], [[9, 10, 10], [10, 20, 20]]]
    assert detections.scores.tolist() == pytest.approx([0.9, 0.7])


def test_methods_differ_in_their_treatment_of_overlapping_boxes():
    boxes = [[[0, 0], [10, 10]], [[0, 0], [10, 20]]]
    given = raw(boxes, [0.8, 0.4], views=[0, 1], num_views=2)

    def merged(method):
        result = consolidate(given, ConsolidateConfig(method=method))
        return result.scores.tolist(), result.boxes[:, 1, 1].tolist()

    assert merged("nms") == (pytest.approx([0.8]), [10])
    assert merged("weighted_nms") == (pytest.approx([0.8]), pytest.approx([(0.8 * 10 + 0.2 * 20) / 1.0]))
    assert merged("soft_nms") == (pytest.approx([0.8, 0.4 * 0.5]), [10, 20])
    assert merged("wbf") == (pytest.approx([0.6]), pytest.approx([(0.8 * 10 + 0.4 * 20) / 1.2]))
    assert merged("wbc") == (pytest.approx([0.6]), pytest.approx([(0.8 * 10 + 0.4 * 20) / 1.2]))


def test_an_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'wbc', 'nms', 'weighted_nms', 'soft_nms' or 'wbf'"):
        ConsolidateConfig.from_dict({"method": "mean"})


@pytest.mark.parametrize(
    "setting",
    [
        "min_score=5",
        "min_score=-0.1",
        "max_detections=0",
        "iou_threshold=-1",
        "iou_threshold=2",
        "merge_slices_iou=1.5",
    ],
)
def test_senseless_settings_are_refused(setting):
    with pytest.raises(ValueError, match=rf"{setting.partition('=')[0]}: Input should be"):
        ConsolidateConfig().override([setting])


@pytest.mark.parametrize(("one_vote_per_view", "score"), [(True, 0.6), (False, 0.625)])
def test_two_boxes_of_one_view_in_a_cluster_count_as_the_setting_says(ndim, one_vote_per_view, score):
    """By hand from equation (2), with IoU f and area a: view 0 has both boxes, view 1 has one, view 2 has none.

    The boxes with score 0.9 are equal: w = a. The other lies inside and is half as long along the last axis: f = 1/2,
    w = a/4. One vote: 1.8 / (2 + 1 x 2/2) = 0.6. All boxes: (1.8 + 0.3/4) / (9/4 + 1 x 9/4/3) = 0.625. Corners are
    means by s w.
    """
    inner = cube(0, 8, ndim)
    inner[1, -1] = 4
    given = raw([cube(0, 8, ndim), inner, cube(0, 8, ndim)], [0.9, 0.3, 0.9], views=[0, 0, 1], num_views=3)
    result = consolidate(given, ConsolidateConfig(iou_threshold=0.4, one_vote_per_view=one_vote_per_view))
    corner = 8.0 if one_vote_per_view else (0.9 * 8 + 0.9 * 8 + 0.3 / 4 * 4) / (0.9 + 0.9 + 0.3 / 4)
    assert result.scores.tolist() == pytest.approx([score])
    assert result.boxes[0, 1, -1] == pytest.approx(corner)

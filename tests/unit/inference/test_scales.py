"""Scales: an image that is also seen at other sizes, whose boxes and masks return to its own grid."""

import itertools
import json

import numpy as np
import pytest
import torch

from boxel.api.detector import Detector
from boxel.consolidation import ConsolidateConfig, RawPrediction, consolidate, read_raw, write_raw
from boxel.consolidation.views import view_axes
from boxel.inference.config import PredictConfig
from boxel.inference.raw import resize
from boxel.io import resample
from boxel.ops import paste_mask
from boxel.types import Detections, Geometry, Image
from tests.unit.builders import make_task
from tests.unit.inference.oracle import Oracle
from tests.unit.inference.test_inference import predict


class Fixed(Oracle):
    """Detects the same boxes in every tile."""

    def __init__(self, boxes) -> None:
        super().__init__()
        self.boxes = torch.tensor(boxes, dtype=torch.float32)

    def detect(self, outputs, *, masks=False):
        count = len(self.boxes)
        one = Detections(self.boxes, torch.full((count,), 0.9), torch.zeros(count, dtype=torch.int64))
        return [one for _ in outputs]


def test_boxes_at_a_scale_are_mapped_back_exactly(ndim):
    """An image of 16 voxels per axis is 32 at scale 2: one tile. Its voxel 5 is voxel 2.5 of the image."""
    oracle = Fixed([[[4] * ndim, [10] * ndim], [[0] * ndim, [5] * ndim]])
    image = np.zeros((16,) * ndim, np.float32)
    raw = predict(image, make_task(ndim, size=32), PredictConfig(views="identity", scales=(2.0,)), [oracle])
    assert oracle.tiles_seen == [(1,) + (32,) * ndim]
    assert raw.boxes.tolist() == [[[2.0] * ndim, [5.0] * ndim], [[0.0] * ndim, [2.5] * ndim]]
    assert raw.num_views == 1


def test_tiles_at_a_scale_lie_on_the_resized_image(ndim):
    """33 voxels per axis are 40 at scale 1.2 (39.6): tiles of 16 at 0, 12, 24. A box of 1..5 in each comes back."""
    image = np.zeros((33,) * ndim, np.float32)
    raw = predict(
        image,
        make_task(ndim, size=16),
        PredictConfig(views="identity", scales=(1.2,)),
        [Fixed([[[1] * ndim, [5] * ndim]])],
    )
    corners = itertools.product((0, 12, 24), repeat=ndim)
    expected = [[[(c + 1) * 33 / 40 for c in corner], [(c + 5) * 33 / 40 for c in corner]] for corner in corners]
    np.testing.assert_allclose(raw.boxes, expected, rtol=1e-6)


@pytest.mark.parametrize("views", ["identity", "plane"])
def test_scales_are_views_that_agree_on_one_box_of_unchanged_score(ndim, views):
    image = np.zeros((41, 37, 30)[:ndim], np.float32)
    image[(slice(12, 16),) * ndim] = 1
    raw = predict(
        image, make_task(ndim, size=24), PredictConfig(views=views, scales=(1.0, 2.0), overlap=0.5), [Oracle()] * 2
    )
    number = 2 * 2 * len(view_axes(views, ndim))
    assert raw.num_views == number
    assert set(raw.views.tolist()) == set(range(number))
    detections = consolidate(raw, ConsolidateConfig(min_score=0.1))
    assert np.allclose(detections.boxes[0], [[12] * ndim, [16] * ndim], atol=0.3)
    assert detections.scores[0] == pytest.approx(0.9, abs=1e-5)


class Small(Oracle):
    """Detects objects of at most 8 voxels along the first axis."""

    def detect(self, outputs, *, masks=False):
        found = super().detect(outputs, masks=masks)
        return [one[one.boxes[:, 1, 0] - one.boxes[:, 0, 0] <= 8] for one in found]


@pytest.mark.parametrize("coverage", ["whole", "mean"])
def test_a_scale_that_misses_an_object_lowers_its_score_by_its_tiles(ndim, coverage):
    """One tile at scale 1; at scale 3 three per axis, of which the middle one alone contains the object: 0.9 / 2."""
    image = np.zeros((16,) * ndim, np.float32)
    image[(slice(6, 10),) * ndim] = 1
    config = PredictConfig(views="identity", scales=(1.0, 3.0), overlap=0, coverage=coverage)
    raw = predict(image, make_task(ndim, size=16), config, [Small()])
    assert len(raw) == 1
    assert consolidate(raw).scores[0] == pytest.approx(0.45, abs=1e-5)


@pytest.mark.parametrize("context", [0, 1])
def test_scales_resize_slices_and_leave_their_number_alone(context):
    task = make_task(2, size=32, spacing=(1.0, 1.0, 1.0), context=context)
    volume = np.zeros((6, 16, 12), np.float32)
    volume[2:4, 5:9, 6:10] = 1
    oracle = Oracle()
    raw = predict(volume, task, PredictConfig(views="identity", scales=(2.0, 1.0)), models=[oracle])
    assert set(oracle.tiles_seen) == {(1 + 2 * context, 32, 32)}
    assert len(oracle.tiles_seen) == 12
    np.testing.assert_allclose(raw.boxes, [[[z, 5, 6], [z + 1, 9, 10]] for z in (2, 3)] * 2, atol=1e-6)
    assert np.allclose(consolidate(raw).boxes, [[[2, 5, 6], [4, 9, 10]]])


def test_masks_come_back_from_scales(ndim):
    shape = (24, 22, 20)[:ndim]
    ground_truth = np.zeros(shape, bool)
    ground_truth[(slice(4, 20), slice(3, 9), *(slice(4, 9),) * (ndim - 2))] = True
    ground_truth[(slice(14, 20), slice(3, 19), *(slice(4, 9),) * (ndim - 2))] = True
    config = PredictConfig(views="identity", masks=True, scales=(2.0, 1.0))
    raw = predict(ground_truth.astype(np.float32), make_task(ndim, size=48), config)
    assert len(raw) == 2
    detections = consolidate(raw)
    region, mask = paste_mask(detections.masks[0].astype(np.float32), detections.boxes[0], shape)
    pasted = np.zeros(shape, bool)
    pasted[region] = mask
    assert (pasted & ground_truth).sum() / (pasted | ground_truth).sum() > 0.9


def test_a_choice_of_views_keeps_every_scale(ndim, tmp_path):
    """Choosing the first view of what was recorded equals predicting with that view alone, also through a file."""
    image = np.zeros((20,) * ndim, np.float32)
    image[(slice(3, 9),) * ndim] = 1
    recorded = {}
    for views in ("plane", "identity"):
        config = PredictConfig(views=views, scales=(1.0, 2.0))
        detector = Detector(make_task(ndim, size=16), [Oracle(), Oracle()], config, ConsolidateConfig(), device="cpu")
        raw = detector.predict_prepared(image[None])
        whole = RawPrediction(
            "a", raw, image.shape, Geometry.plain(image.shape), ("x",), ConsolidateConfig(), views=detector.views
        )
        write_raw(tmp_path / views / "a.npz", whole)
        recorded[views] = read_raw(tmp_path / views / "a.npz")["a"]
    chosen = recorded["plane"].select(views="identity")
    assert chosen.views == recorded["identity"].views
    assert chosen.views.scales == (1.0, 2.0)
    assert chosen.raw.num_views == 4
    for name, column in vars(recorded["identity"].raw).items():
        np.testing.assert_array_equal(getattr(chosen.raw, name), column)


def test_the_file_of_a_prediction_at_one_scale_is_as_before_scales(ndim, tmp_path):
    config = PredictConfig(views="plane", scales=(1.0,))
    detector = Detector(make_task(ndim, size=16), [Oracle()], config, ConsolidateConfig(), device="cpu")
    raw = detector.predict_prepared(np.ones((1,) + (20,) * ndim, np.float32))
    geometry = Geometry.plain((20,) * ndim)
    write_raw(
        tmp_path / "a.npz",
        RawPrediction("a", raw, (20,) * ndim, geometry, ("x",), ConsolidateConfig(), views=detector.views),
    )
    record = json.loads(str(np.load(tmp_path / "a.npz")["record"]))
    assert record["version"] == 2
    assert record["views"].keys() == {"mirrors", "checkpoints"}


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ([], "at least 1 item"),
        ([1, 0], "greater than 0"),
        ([-1], "greater than 0"),
        ([float("nan")], "finite number"),
        ([float("inf")], "finite number"),
        ([1, 2, 1.0], "a scale occurs twice"),
    ],
)
def test_scales_that_make_no_sense_are_refused(scales, message):
    with pytest.raises(ValueError, match=rf"scales.*{message}"):
        PredictConfig.from_dict({"scales": scales})


def test_images_are_resized_for_a_scale_as_they_are_prepared(ndim, rng):
    """A model at scale 0.7 sees what the preparation makes of the image on such a grid."""
    shape = (20, 25, 15)[:ndim]
    image = rng.normal(size=(1, *shape)).astype(np.float32)
    expected = resample(Image(image, Geometry.plain(shape)), tuple(round(0.7 * n) for n in shape)).array
    np.testing.assert_allclose(resize(image, expected.shape[1:]), expected, atol=1e-5)

"""Tiles, mirrored views and checkpoints: a model that knows the answer gives it through all of them."""

import itertools
import json
from unittest.mock import ANY

import cc3d
import numpy as np
import pytest
import torch

from boxel.api.detector import Detector
from boxel.caps import warn_of_caps
from boxel.consolidation import ConsolidateConfig, RawPrediction, consolidate, read_raw, write_raw
from boxel.consolidation.views import view_axes
from boxel.export.boxel_json import read_prediction, write_detections
from boxel.inference.config import PredictConfig
from boxel.inference.raw import crop, predict_raw
from boxel.ops import boxes_from_label_map, paste_mask
from boxel.types import Detections, Geometry
from tests.unit.builders import MODELS, make_batch, make_task
from tests.unit.inference.oracle import Oracle


def predict(image, task, config, models=None):
    return predict_raw(models or [Oracle()], image[None], 0.0, task, config, torch.device("cpu"))


@pytest.mark.parametrize("views", ["identity", "plane", "all"])
def test_views_and_tiles_agree_on_one_box_of_unchanged_score(ndim, views):
    task = make_task(ndim, size=16)
    image = np.zeros((41, 37, 30)[:ndim], np.float32)
    image[(slice(12, 15),) * ndim] = 1
    raw = predict(image, task, PredictConfig(views=views, overlap=0.5))
    assert len(raw) >= raw.num_views == len(view_axes(views, ndim))
    detections = consolidate(raw, ConsolidateConfig(min_score=0.1))
    best = detections.boxes[0]
    assert np.allclose(best, [[12] * ndim, [15] * ndim], atol=0.3)
    assert detections.scores[0] == pytest.approx(0.9, abs=1e-5)


def test_an_image_smaller_than_the_patch_is_padded_and_its_boxes_are_its_own(ndim):
    task = make_task(ndim, size=32)
    image = np.zeros((11,) * ndim, np.float32)
    image[(slice(2, 7),) * ndim] = 2
    raw = predict(image, task, PredictConfig(views="all"))
    assert np.allclose(raw.boxes, [[2] * ndim, [7] * ndim])
    assert np.allclose(raw.coverage, 1)


class Components(Oracle):
    """Detects every connected part of its tile."""

    def detect(self, outputs, *, masks=False):
        detections = []
        for tile in outputs[:, 0].int().numpy():
            parts = cc3d.connected_components(tile, connectivity=2 * tile.ndim)
            boxes, _ = boxes_from_label_map(torch.from_numpy(parts.astype(np.int32)), torch.arange(1, parts.max() + 1))
            scores = torch.full((len(boxes),), 0.9)
            detections.append(Detections(boxes, scores, torch.zeros(len(boxes), dtype=torch.int64)))
        return detections


def crowd(ndim):
    """An image larger than the patch, and its many objects, none of which a tile cuts."""
    image = np.zeros((56, 56) if ndim == 2 else (24, 24, 24), np.float32)
    for corner in itertools.product(range(1, len(image), 4), repeat=ndim):
        image[tuple(slice(a, a + 2) for a in corner)] = 1
    return image, {2: 196, 3: 216}[ndim]


@pytest.mark.parametrize("chosen", [None, 37], ids=["planned", "chosen"])
def test_a_large_tiled_image_keeps_all_its_objects_unless_a_cap_is_chosen_which_is_then_said(ndim, chosen, caplog):
    image, objects = crowd(ndim)
    task = make_task(ndim, size=16, max_detections=100, image_voxels=16**ndim)
    detector = Detector(
        task, [Components()], PredictConfig(overlap=0.5), ConsolidateConfig(max_detections=chosen), device="cpu"
    )
    raw = detector.predict_prepared(image[None])
    detections = detector.finish(raw, image.shape, Geometry.plain(image.shape))
    assert (len(detections), detections.capped) == ((objects, False) if chosen is None else (chosen, True))
    warn_of_caps(int(detections.capped), 1)
    assert caplog.messages == ([] if chosen is None else [ANY])


@pytest.mark.parametrize("capped", [True, False], ids=["likely", "unlikely"])
def test_a_cap_per_patch_is_known_in_all_files_if_it_leaves_likely_objects_out(ndim, tmp_path, capped):
    task = make_task(ndim, size=24, max_detections=2)
    config = MODELS["retina_net"]
    # An untrained softmax gives every class about the same score; an untrained sigmoid gives all about 0.01.
    dense = config.dense.model_copy(update={"min_score": 0.0, "softmax": capped})
    config = config.model_copy(update={"dense": dense})
    image = make_batch(task, 1).images[0, 0].numpy()
    with torch.inference_mode():
        raw = predict(image, task, PredictConfig(views="identity"), [config.build(task).eval()])
    assert len(raw) == 2
    geometry = Geometry.plain(image.shape)
    whole = ConsolidateConfig(max_detections=99)
    write_raw(tmp_path / "a.npz", RawPrediction("a", raw, image.shape, geometry, task.classes, whole))
    detections = read_raw(tmp_path / "a.npz")["a"].consolidate()
    assert detections.capped is capped
    write_detections(tmp_path / "a.json", detections, "a", task.classes)
    assert json.loads((tmp_path / "a.json").read_text()).get("capped", False) is capped
    assert read_prediction(tmp_path / "a.json").detections.capped is capped


def test_several_checkpoints_count_as_views(ndim):
    task = make_task(ndim, size=16)
    image = np.zeros((16,) * ndim, np.float32)
    image[(slice(3, 9),) * ndim] = 1
    raw = predict(image, task, PredictConfig(views="plane"), models=[Oracle(), Oracle(), Oracle()])
    assert raw.num_views == 12
    assert len(set(raw.views.tolist())) == 12
    assert consolidate(raw).scores[0] == pytest.approx(0.9, abs=1e-5)


def test_an_empty_image_gives_no_box_in_the_right_shape(ndim):
    raw = predict(np.zeros((20,) * ndim, np.float32), make_task(ndim, size=16), PredictConfig())
    assert raw.boxes.shape == (0, 2, ndim)
    assert consolidate(raw).boxes.shape == (0, 2, ndim)


def test_slice_wise_models_see_context_and_give_boxes_of_the_volume():
    task = make_task(2, size=16, spacing=(1.0, 1.0, 1.0), context=1)
    volume = np.zeros((6, 20, 20), np.float32)
    volume[2:4, 5:9, 6:12] = 1
    oracle = Oracle()
    raw = predict(volume, task, PredictConfig(views="identity"), models=[oracle])
    assert set(oracle.tiles_seen) == {(3, 16, 16)}
    assert sorted({(float(b[0, 0]), float(b[1, 0])) for b in raw.boxes}) == [(2.0, 3.0), (3.0, 4.0)]
    merged = consolidate(raw)
    assert np.allclose(merged.boxes[0], [[2, 5, 6], [4, 9, 12]], atol=0.2)


def test_a_tile_beyond_the_image_is_filled():
    tile = crop(np.ones((1, 4, 4), np.float32), (-1, 2), (4, 4), 0, 0, fill=-5.0)
    assert tile.shape == (1, 4, 4)
    assert (tile[0, 0] == -5).all()
    assert (tile[0, 1:, :2] == 1).all()
    assert (tile[0, :, 2:] == -5).all()


@pytest.mark.parametrize("slice_wise", [False, True], ids=["whole", "slices"])
def test_masks_come_back_through_mirrored_views_tiles_and_slices(ndim, slice_wise):
    """An L on every slice of its first axis: mirrored wrongly it would not fit itself."""
    shape = (41, 37, 30)[:ndim] if not slice_wise else (9, 41, 37, 30)[: ndim + 1]
    ground_truth = np.zeros(shape, bool)
    middle = ground_truth[3:7] if slice_wise else ground_truth
    where = (slice(None),) * slice_wise
    middle[(*where, slice(8, 24), slice(6, 12), *(slice(4, 9),) * (ndim - 2))] = True
    middle[(*where, slice(18, 24), slice(6, 22), *(slice(4, 9),) * (ndim - 2))] = True
    task = make_task(ndim, size=32)
    raw = predict(ground_truth.astype(np.float32), task, PredictConfig(views="plane", overlap=0.5, masks=True))
    assert raw.slice_axes == slice_wise
    detections = consolidate(raw, ConsolidateConfig(max_detections=3))
    region, mask = paste_mask(detections.masks[0].astype(np.float32), detections.boxes[0], shape)
    pasted = np.zeros(shape, bool)
    pasted[region] = mask
    assert (pasted & ground_truth).sum() / (pasted | ground_truth).sum() > 0.95


def test_bf16_detects_nearly_the_same(ndim):
    torch.manual_seed(0)
    task = make_task(ndim)
    config = MODELS["retina_net"]
    config = config.model_copy(update={"dense": config.dense.model_copy(update={"min_score": 0.0})})
    model, image = config.build(task).eval(), make_batch(task, 1).images[0, 0].numpy()
    with torch.inference_mode():
        plain, half, auto = (
            predict(image, task, PredictConfig(views="identity", precision=precision), [model])
            for precision in ("fp32", "bf16", "auto")
        )
    assert len(plain)
    assert np.allclose(plain.scores[:5], half.scores[:5], rtol=0.05)
    assert not np.array_equal(plain.scores[:5], half.scores[:5])
    assert np.array_equal(plain.scores, auto.scores)

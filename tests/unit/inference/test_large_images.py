"""Large images: tiles that the memory holds, and the same detections whether all voxels are in memory or not."""

import logging
import tracemalloc

import numpy as np
import pytest
import torch

from boxel import slabs
from boxel.api.detector import Detector
from boxel.consolidation import ConsolidateConfig
from boxel.inference import network, raw
from boxel.inference.config import PredictConfig
from boxel.inference.raw import predict_raw
from boxel.slabs import Slabs
from boxel.types import Geometry, Image
from tests.unit.builders import MODELS, make_task
from tests.unit.inference.oracle import Oracle

SHAPE = (30, 28, 20)


def columns(found):
    return [found.boxes, found.scores, found.labels, found.views, found.tiles, found.weights, found.coverage]


@pytest.mark.parametrize("spacing", [1.0, 0.8])
@pytest.mark.parametrize("model_ndim", [2, 3])
def test_detections_are_the_same_whether_an_image_is_read_in_parts_or_whole(
    ndim, model_ndim, spacing, rng, monkeypatch
):
    if model_ndim > ndim:
        pytest.skip("slices of a picture")
    monkeypatch.setattr(slabs, "SLAB", 1000)
    monkeypatch.setattr(raw, "BOXES", 7)
    task = make_task(model_ndim, size=16, spacing=(spacing,) * ndim, context=ndim - model_ndim)
    dense = MODELS["retina_net"].dense.model_copy(update={"min_score": 0.0})
    model = MODELS["retina_net"].model_copy(update={"dense": dense}).build(task).eval()
    array = rng.integers(-900, 900, (1, *SHAPE[:ndim])).astype(np.int16)
    geometry = Geometry.plain(array.shape[1:])
    config = PredictConfig(views="identity", scales=(1.0, 0.8))
    detector = Detector(task, [model], config, ConsolidateConfig(), device="cpu")
    in_parts = Slabs(array.shape, array.dtype, lambda first, last: array[:, first:last], block=3)
    whole, parts, wide = (
        detector.predict_raw(Image(voxels, geometry))[0] for voxels in (array, in_parts, array.astype(np.float32))
    )
    assert len(whole) > 20
    for one, other, third in zip(columns(whole), columns(parts), columns(wide), strict=True):
        assert np.array_equal(one, other)
        assert np.array_equal(one, third)


def seen_with(ndim, caplog, **settings):
    """The tiles that a model sees of an image, without those on which its memory is measured, and what is noted."""
    caplog.clear()
    model = Oracle()
    image = np.zeros((1, *(96,) * ndim), np.float32)
    for _ in range(2):  # noted once
        model.tiles_seen.clear()
        predict_raw([model], image, 0.0, make_task(ndim, size=16), PredictConfig(**settings), torch.device("cpu"))
    return set(model.tiles_seen), caplog.messages


def test_a_tile_is_no_larger_than_the_memory_allows(ndim, caplog, monkeypatch):
    caplog.set_level(logging.WARNING)
    once = {"views": "identity", "tile_voxels": 2 * 96**ndim}
    assert seen_with(ndim, caplog, **once) == ({(1, *(96,) * ndim)}, [])
    tiles, (text,) = seen_with(ndim, caplog, **once, memory=48 * 48**ndim / 2**30)
    (tile,) = tiles
    assert 16**ndim < np.prod(tile) < 96**ndim
    assert np.prod(tile) * 2 * 4 < 48 * 48**ndim  # twice what the input alone takes
    wanted = " x ".join(["96"] * ndim)
    assert text.startswith(f"tiles of {wanted} voxels, 1 at a time, take too much memory: those of {tile[1]} x ")
    assert text.endswith("; set predict.memory (GiB) to allow more")
    monkeypatch.setattr(network, "CPU_BYTES", 1)
    (tile,), (text,) = seen_with(ndim, caplog, **once)
    assert np.prod(tile) <= 2 * 16**ndim  # as many voxels as in training
    (tile,), (text,) = seen_with(ndim, caplog, **once, memory=1e-9)
    assert tile == (1, *(16,) * ndim)  # a patch at least


def test_a_batch_is_no_larger_than_the_memory_allows(ndim, caplog):
    once = {"views": "identity", "batch_size": 6}
    assert seen_with(ndim, caplog, **once)[1] == []
    _, (text,) = seen_with(ndim, caplog, **once, memory=1e-9)
    size = " x ".join(["16"] * ndim)
    voxels = f"{size} voxels"
    assert text.startswith(f"tiles of {voxels}, 6 at a time, take too much memory: those of {voxels}, 1 at a time, are")


def test_the_memory_of_a_prediction_does_not_grow_with_the_planes_of_an_image(ndim, monkeypatch):
    monkeypatch.setattr(slabs, "SLAB", 2**12)
    task = make_task(ndim, size=16)
    config = PredictConfig(views="identity", tile_voxels=2**12, overlap=0.0)
    detector = Detector(task, [Oracle()], config, ConsolidateConfig(), device="cpu")

    def taken(planes):
        """Bytes beside an image of so many planes."""
        array = np.zeros((1, planes, *{2: (256,), 3: (16, 16)}[ndim]), np.int16)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        detector.predict_raw(Image(array, Geometry.plain(array.shape[1:])))
        return tracemalloc.get_traced_memory()[1] - before

    tracemalloc.start()
    taken(32)  # what is loaded once
    few, many = taken(128), taken(1024)
    tracemalloc.stop()
    assert (
        many - few < 2 * 256 * (1024 - 128) / 4
    )  # a quarter of the further voxels; a copy in float32 has twice as many

"""Segmentation: averaged over tiles, views and checkpoints, and painted on the grid of the original image."""

import itertools
import tracemalloc

import numpy as np
import pytest
import torch

from boxel.api.detector import Detector
from boxel.consolidation import ConsolidateConfig
from boxel.inference import segmentation
from boxel.inference.config import PredictConfig
from boxel.inference.raw import predict_raw
from boxel.inference.segmentation import MeanProbability, Painter
from boxel.io import read_image, read_label_map, resample, same_grid, write_image, write_label_map
from boxel.ops import patch_centre_weight
from boxel.types import Geometry, Image, Normalisation
from tests.unit.builders import MODELS, make_task
from tests.unit.inference.oracle import Oracle

SHAPE = (21, 26, 19, 23)


@pytest.fixture
def label_map(rng, ndim) -> np.ndarray:
    """Four classes in single voxels: a tile that is placed or mirrored wrongly would not fit."""
    return rng.integers(0, 5, SHAPE[:ndim])


def probabilities(image, task, models=None, **settings):
    arguments = (image[None].astype(np.float32), 0.0, task, PredictConfig(**settings), torch.device("cpu"))
    parts = []
    predict_raw(models or [Oracle()], *arguments, parts.append)
    return np.concatenate(parts, axis=1)


def paint(mean, shape, number=1000):
    """The label map of probabilities that are handed over so many planes at a time."""
    painter = Painter(mean.shape[1], shape)
    for begin in range(0, mean.shape[1], number):
        painter.add(mean[:, begin : begin + number])
    return painter.labels


@pytest.mark.parametrize("views", ["identity", "plane", "all"])
@pytest.mark.parametrize("size", [12, 32], ids=["tiles", "padded"])
def test_an_oracle_is_reproduced_exactly_through_tiles_and_mirrored_views(ndim, label_map, views, size):
    mean = probabilities(label_map, make_task(ndim, size=size), views=views, overlap=0.5)
    assert mean.dtype == np.float32
    assert mean.shape == (4, *label_map.shape)
    for number in range(4):
        assert np.allclose(mean[number], label_map == number + 1, atol=1e-6)
    assert (paint(mean, label_map.shape) == label_map).all()


def test_overlapping_tiles_count_by_how_central_a_voxel_lies_in_them(ndim, rng):
    shape, patch = SHAPE[:ndim], (12, 16, 8)[:ndim]
    starts = [(0, 4, 9), (-3, 8, 10), (0, 7, 12)][:ndim]
    parts, total, weights = [], np.zeros((2, *shape)), np.zeros(shape)
    mean = MeanProbability(shape, parts.append)
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, ndim)
    for lower in itertools.product(*starts):
        with np.errstate(invalid="ignore"):  # the tiles leave corners open
            mean.finish(lower[0])
        tile = rng.random((2, *patch)).astype(np.float32)
        mean.add(torch.from_numpy(tile), lower)
        inside = ((voxels >= lower) & (voxels < np.add(lower, patch))).all(1)
        seen = voxels[inside]
        boxes = np.stack([seen, seen + 1], 1).astype(np.float32)
        weight = patch_centre_weight(boxes, lower, patch)
        total[(slice(None), *seen.T)] += weight * tile[(slice(None), *(seen - lower).T)]
        weights[tuple(seen.T)] += weight
    with np.errstate(invalid="ignore"):
        mean.finish(shape[0])
    assert [part.shape[1] for part in parts] == [starts[0][1], starts[0][2] - starts[0][1], shape[0] - starts[0][2]]
    covered = weights > 0
    found = np.concatenate(parts, axis=1)
    assert np.allclose(found[:, covered], (total / weights.clip(1e-9))[:, covered], atol=1e-5)


@pytest.mark.parametrize("context", [0, 1])
def test_slice_wise_models_segment_volumes_slice_by_slice(rng, context):
    label_map = rng.integers(0, 5, SHAPE[:3])
    task = make_task(2, size=12, spacing=(1.0,) * 3, context=context)
    mean = probabilities(label_map, task, views="plane", overlap=0.3)
    assert (paint(mean, label_map.shape) == label_map).all()


@pytest.mark.parametrize("slice_wise", [False, True], ids=["whole", "slices"])
@pytest.mark.parametrize("scales", [(2.0,), (1.0, 2.0)])
def test_segmentations_at_other_scales_return_to_the_grid_of_the_image(ndim, rng, scales, slice_wise):
    """Blocks of whole voxels: those of twice as many voxels, averaged in pairs, are the same blocks."""
    blocks = rng.integers(0, 2, (7, 6, 5)[:ndim])
    label_map = np.kron(blocks, np.ones((3,) * ndim, int))
    label_map = np.stack([label_map, 1 - label_map]) if slice_wise else label_map
    task = make_task(ndim, size=16, spacing=(1.0,) * label_map.ndim)
    mean = probabilities(label_map, task, views="plane", scales=scales, overlap=0.5)
    assert mean.shape == (4, *label_map.shape)
    assert mean.dtype == np.float32
    assert (paint(mean, label_map.shape) == label_map).all()
    assert np.allclose(mean.sum(0).round(), label_map)


def test_scales_count_equally_in_a_segmentation(ndim):
    """The model recognises the scale by a bright voxel, which linear resampling to half the size averages away."""

    class Size(Oracle):
        def segment(self, outputs):
            value = 0.2 if outputs.max() < 1.5 else 0.6
            own = torch.full((len(outputs), 1, *outputs.shape[2:]), value)
            return torch.cat([1 - own, own], 1)

    image = np.ones((20,) * ndim)
    image[(0,) * ndim] = 2
    mean = probabilities(image, make_task(ndim, size=64), [Size()], scales=(1.0, 0.5))
    assert np.allclose(mean, 0.4)


def test_checkpoints_are_averaged(ndim, label_map):
    mean = probabilities(label_map, make_task(ndim, size=12), [Oracle(0.9), Oracle(0.4), Oracle(0.8)])
    assert np.allclose(mean.sum(0), (label_map > 0) * 0.7, atol=1e-6)


def test_the_boxes_are_the_same_with_and_without_a_segmentation(ndim):
    config = MODELS["retina_unet"]
    model = config.model_copy(update={"dense": config.dense.model_copy(update={"min_score": 0.0})})
    task = make_task(ndim)
    torch.manual_seed(0)
    arguments = ([model.build(task).eval()], np.random.default_rng(0).normal(size=(1, *SHAPE[:ndim])), 0.0, task)
    with torch.inference_mode():
        plain = predict_raw(*arguments, PredictConfig(), torch.device("cpu"))
        parts = []
        raw = predict_raw(*arguments, PredictConfig(), torch.device("cpu"), parts.append)
    mean = np.concatenate(parts, axis=1)
    assert np.allclose(raw.boxes, plain.boxes, atol=1e-4)
    assert ((mean >= 0) & (mean <= 1)).all()


@pytest.mark.parametrize("name", ["retina_unet", "unet", "lsnet", "coarse_to_fine"])
def test_one_tile_is_the_whole_image(ndim, name):
    """The network applied to the image at once, without the package's inference."""
    task = make_task(ndim, size=32, normalisation=(Normalisation(kind="none"),))
    torch.manual_seed(0)
    config = MODELS[name]
    if name == "lsnet":  # without a least score, untrained weights locate something
        config = config.model_copy(update={"first": config.first.model_copy(update={"min_score": 0.0})})
    model = config.build(task).eval()
    for part, weights in model.named_parameters():
        if part.endswith("head.bias"):  # U-Nets start at background
            torch.nn.init.zeros_(weights)
    image = torch.randn(1, 1, *task.patch_size)
    with torch.inference_mode():
        expected = model.segment(model.infer(image, segmentation=True))[0]
        mean = probabilities(image[0, 0].numpy(), task, [model], views="identity")
    assert expected[1:].amax() > 0.1
    assert np.allclose(mean, expected[1:], atol=1e-6)
    given = Image(image[0].numpy(), Geometry.plain(task.patch_size))
    one = Detector(task, [model], PredictConfig(views="identity"), ConsolidateConfig(), device="cpu",
                   segmentation_classes=("first", "second"))  # fmt: skip
    labels = one.segment(given)[1]
    if len(expected) == 3:
        assert np.array_equal(labels, expected.argmax(0))
    else:  # foreground alone
        assert np.array_equal(labels, expected[1] > 0.5)


def test_the_memory_of_a_segmentation_does_not_grow_with_the_planes_of_an_image(ndim):
    task = make_task(ndim, size=24)
    settings = (task, PredictConfig(views="identity", overlap=0.0, batch_size=1), torch.device("cpu"))

    def added(planes):
        """Bytes that the segmentation adds to a prediction of so many planes, apart from its result."""
        image = np.zeros((1, planes, *{2: (144,), 3: (24, 24)}[ndim]), np.float32)
        painter = Painter(planes, image.shape[1:])
        return measured(lambda: predict_raw([Oracle()], image, 0.0, *settings, painter.add)) - measured(
            lambda: predict_raw([Oracle()], image, 0.0, *settings)
        )

    tracemalloc.start()
    added(48)  # what is loaded once
    few, many = added(120), added(480)
    tracemalloc.stop()
    held = 4 * 4 * 360 * {2: 144, 3: 24 * 24}[ndim]  # four classes in float32 on the further planes
    assert many - few < held / 10


def measured(work):
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    work()
    return tracemalloc.get_traced_memory()[1] - before


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.6])
@pytest.mark.parametrize("slab", [1, 2**22], ids=["plane by plane", "at once"])
@pytest.mark.parametrize("number", [1, 4, 1000])
def test_painting_on_another_grid_is_the_largest_of_the_resampled_probabilities(
    ndim, rng, factor, slab, number, monkeypatch
):
    """The resampling is compared with ITK's."""
    monkeypatch.setattr(segmentation, "SLAB", slab)
    shape = SHAPE[:ndim]
    target = tuple(round(n * factor) for n in shape)
    mean = rng.dirichlet(np.ones(4), shape).transpose(-1, *range(ndim)).astype(np.float32)
    resampled = resample(Image(mean, Geometry.plain(shape)), target).array
    labels = paint(mean[1:], target, number)
    assert labels.dtype == np.uint8
    assert (labels == resampled.argmax(0)).mean() > 0.999  # ties within rounding


def test_many_classes_and_few_planes(ndim):
    mean = np.zeros((300, 1, *SHAPE[1:ndim]), np.float32)
    mean[299] = 1.0
    labels = paint(mean, (3, *SHAPE[1:ndim]))
    assert (labels == 300).all()
    assert labels.dtype == np.uint16


def detector(task, model=None, names=("first", "second", "third", "fourth")):
    settings = (PredictConfig(views="plane"), ConsolidateConfig())
    return Detector(task, [model or Oracle()], *settings, device="cpu", segmentation_classes=names)


def plain_task(ndim, **changes):
    return make_task(ndim, size=12, normalisation=(Normalisation(kind="none"),), **changes)


def test_a_detector_segments_on_the_grid_of_the_file_in_one_pass(ndim, label_map, tmp_path):
    turn = np.eye(ndim)[::-1].copy()
    turn[:, 0] *= -1
    geometry = Geometry(label_map.shape, (1.0,) * ndim, (5.0, -7.0, 9.0)[:ndim], tuple(map(tuple, turn.tolist())))
    write_image(tmp_path / "image.mha", Image(label_map[None].astype(np.float32), geometry))
    oracle = Oracle()
    detections, labels = detector(plain_task(ndim), oracle).segment(tmp_path / "image.mha")
    passes = len(oracle.tiles_seen)
    assert (labels == label_map).all()
    plain = detector(plain_task(ndim), oracle).predict(tmp_path / "image.mha")
    assert len(oracle.tiles_seen) == 2 * passes
    assert np.array_equal(detections.boxes, plain.boxes)
    write_label_map(tmp_path / "seg.nii.gz", labels, read_image(tmp_path / "image.mha").geometry)
    written = read_label_map(tmp_path / "seg.nii.gz")
    assert (written.array == label_map).all()
    assert not same_grid(written.geometry, geometry)


def test_another_spacing_keeps_objects_in_place(ndim):
    """A block of 8 mm, in an image of half the spacing that the model works with."""
    image = np.zeros((1, *(40,) * ndim), np.float32)
    image[(0, *(slice(12, 28),) * ndim)] = 2
    given = Image(image, Geometry.plain(image.shape[1:], (0.5,) * ndim))
    _, labels = detector(plain_task(ndim)).segment(given)
    assert (labels[(slice(12, 28),) * ndim] == 2).mean() > 0.9
    outside = labels.copy()
    outside[(slice(12, 28),) * ndim] = 0
    assert not outside.any()


def test_a_model_that_does_not_segment_says_so(ndim):
    task, image = make_task(ndim), Image(np.zeros((1, *SHAPE[:ndim])), Geometry.plain(SHAPE[:ndim]))
    with pytest.raises(ValueError, match=r"does not segment; train a model that does, such as retina_unet"):
        detector(task, MODELS["retina_net"].build(task), names=()).segment(image)

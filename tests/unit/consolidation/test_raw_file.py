"""Raw predictions as files: everything comes back, and what is not a raw prediction is named."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

import boxel
from boxel.consolidation import ConsolidateConfig, RawPrediction, write_raw
from boxel.consolidation.views import RecordedViews
from boxel.types import Geometry, RawDetections


def prediction(ndim, *, count=3, masks=True, case="a") -> RawPrediction:
    lower = np.arange(count * ndim, dtype=np.float32).reshape(count, ndim)
    numbers = np.arange(count)
    raw = RawDetections(
        np.stack([lower, lower + 2], 1),
        np.linspace(0.9, 0.3, count, dtype=np.float32),
        numbers % 2,
        numbers,
        numbers * 2,
        np.full(count, 0.5, np.float32),
        np.full(count, 1.5, np.float32),
        num_views=4,
        masks=np.full((count, *(3,) * ndim), 0.25, np.float16) if masks else None,
    )
    geometry = replace(Geometry.plain((8,) * ndim, (0.5,) * ndim), origin=(7.0,) * ndim)
    config = ConsolidateConfig(method="nms", max_detections=2)
    return RawPrediction(case, raw, (4,) * ndim, geometry, ("x", "y"), config, (), {"detector": "abc"})


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("count", [0, 3])
def test_a_raw_prediction_comes_back_whole(ndim, tmp_path, masks, count):
    written = prediction(ndim, masks=masks, count=count)
    write_raw(tmp_path / "raw" / "a.npz", written)
    for place in (tmp_path, tmp_path / "raw", tmp_path / "raw" / "a.npz"):
        (back,) = boxel.read_raw(place).values()
        assert replace(back, raw=written.raw) == written
        for name, value in vars(written.raw).items():
            assert np.array_equal(getattr(back.raw, name), value)
            assert getattr(getattr(back.raw, name), "dtype", None) == getattr(value, "dtype", None)


def test_detections_are_in_the_voxels_of_the_original_image(ndim):
    """The prepared image has half as many voxels per axis."""
    detections = prediction(ndim).consolidate()
    assert detections.geometry.shape == (8,) * ndim
    assert detections.boxes[0].tolist() == [
        [2.0 * axis for axis in range(ndim)],
        [2.0 * axis + 4 for axis in range(ndim)],
    ]
    assert len(detections) == 2
    assert len(prediction(ndim).consolidate(ConsolidateConfig(method="nms"))) == 3


def rewrite(path, **changes):
    """The file with some of its arrays replaced, or left out where None."""
    with np.load(path) as file:
        arrays = {**file, **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def edit_record(path, **changes):
    with np.load(path) as file:
        record = json.loads(str(file["record"]))
    rewrite(path, record=np.array(json.dumps(record | changes)))


@pytest.fixture
def file(tmp_path):
    write_raw(tmp_path / "a.npz", prediction(2))
    return tmp_path / "a.npz"


DAMAGES = {
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:200]), "not a raw prediction, or damaged"),
    "empty": (lambda path: path.write_bytes(b""), "not a raw prediction, or damaged"),
    "text": (lambda path: path.write_text("boxes"), "not a raw prediction, or damaged"),
    "a pickle": (lambda path: rewrite(path, boxes=np.array([{}], object)), "not a raw prediction, or damaged"),
    "another zip": (lambda path: zipfile.ZipFile(path, "w").close(), "early Boxel"),
    "an early file": (lambda path: rewrite(path, record=None), "early Boxel"),
    "no JSON": (lambda path: rewrite(path, record=np.array("{")), "not valid JSON"),
    "a later version": (lambda path: edit_record(path, version=99), "version 99.*update Boxel"),
    "an unknown setting": (lambda path: edit_record(path, consolidate={"metod": "nms"}), "did you mean 'method'"),
    "a column missing": (lambda path: rewrite(path, views=None), "do not fit together"),
    "another rank": (lambda path: rewrite(path, boxes=np.zeros((3, 2, 3), np.float32)), "do not fit together"),
    "other lengths": (lambda path: rewrite(path, scores=np.zeros(2, np.float32)), "scores has 2 rows"),
    "an unknown label": (lambda path: rewrite(path, labels=np.array([0, 1, 2])), "not one of 2 classes"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named(file, damage):
    spoil, says = DAMAGES[damage]
    spoil(file)
    with pytest.raises(ValueError, match=says) as error:
        boxel.read_raw(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_without_raw_predictions_is_named(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=f"{place}: no .*boxel predict"):
            boxel.read_raw(place)


def with_views(ndim, mirrors, checkpoints):
    """One box of score 0.1 x view in each view."""
    number = len(mirrors) * sum(checkpoints)
    one = prediction(ndim, count=number, masks=False)
    raw = replace(one.raw, num_views=number, views=np.arange(number), scores=np.arange(number, dtype=np.float32) / 10)
    return replace(one, raw=raw, views=RecordedViews(mirrors=mirrors, checkpoints=checkpoints))


@pytest.mark.parametrize(
    ("views", "checkpoints", "kept"),
    [
        (1, None, [0, 2, 4]),
        ("2", 1, [0, 1, 4, 5]),
        ("identity", 1, [0, 4]),
        (None, 1, [0, 1, 4, 5]),
        (2, None, range(6)),
    ],
)
def test_views_are_selected_in_every_checkpoint_and_the_best_checkpoints_in_every_run(ndim, views, checkpoints, kept):
    """Two checkpoints of a first run and one of a second, each in two mirrored views."""
    checkpoints = {"checkpoints": checkpoints}
    selected = with_views(ndim, ((), (ndim - 1,)), (2, 1)).select(views=views, **checkpoints)
    assert (10 * selected.raw.scores).round().tolist() == list(kept)
    assert selected.raw.views.tolist() == list(range(len(kept)))
    assert selected.raw.num_views == len(kept)


def test_an_earlier_file_keeps_its_boxes_but_cannot_be_selected_from(ndim, tmp_path):
    write_raw(tmp_path / "raw" / "a.npz", prediction(ndim))
    (back,) = boxel.read_raw(tmp_path).values()
    assert len(back.select().raw) == 3
    with pytest.raises(ValueError, match=r"case 'a'.* does not say which view .*earlier Boxel.* predict again"):
        back.select(views=1)


def test_a_file_with_more_views_than_it_says_is_damaged(ndim, tmp_path):
    path = tmp_path / "raw" / "a.npz"
    write_raw(path, replace(prediction(ndim), views=RecordedViews(mirrors=((),), checkpoints=(3,))))
    with pytest.raises(ValueError, match=r"a\.npz: damaged, its views are not 4"):
        boxel.read_raw(path)

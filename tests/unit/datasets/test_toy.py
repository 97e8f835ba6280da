"""The papers' toy data: the specified shapes, every image distinct, safe to interrupt."""

import json

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import check
from boxel.datasets.toy import PRESETS, TASKS, make_toy, toy_image

SMALL = {"num_train": 6, "num_val": 3, "num_test": 4, "size": 64}


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def uncut(task, preset, label, ndim=2):
    """The image and mask of an object of the class that is not cut by the border."""
    size, scale = {2: (320, 1.0), 3: (40, 0.5)}[ndim]
    for seed in range(200):
        image, label_map, drawn = toy_image(task, preset, (size,) * ndim, np.random.default_rng(seed), scale)
        inside = np.argwhere(label_map)
        if drawn == label and inside.min() > 0 and inside.max() < size - 1:
            return image, label_map.astype(bool)
    raise AssertionError("no such image")


# `mdt` in 2D: areas and extents that the public toolkit's generator gives, 39 px and 1245 px for "diameter" 20, 37 px
# and 1125 px for 19, a hole of 45 px; in 3D with half the radii. Others are counts of lattice points nearer than half
# the diameter to a centre that makes the extent the diameter: on a point (odd), or half way between points (even).
@pytest.mark.parametrize(
    ("ndim", "task", "preset", "label", "voxels", "extent"),
    [
        (2, "donuts_shape", "mdt", 0, 1245, 39), (2, "donuts_shape", "mdt", 1, 1245 - 45, 39),
        (2, "donuts_pattern", "mdt", 1, 1245, 39), (2, "circles_scale", "mdt", 0, 1125, 37),
        (2, "circles_scale", "mdt", 1, 1245, 39), (2, "donuts_shape", "paper", 0, 316, 20),
        (2, "donuts_shape", "paper", 1, 316 - 12, 20), (2, "donuts_pattern", "paper", 1, 316, 20),
        (2, "circles_scale", "paper", 0, 293, 19), (2, "circles_scale", "paper", 1, 316, 20),
        (3, "donuts_shape", "mdt", 0, 4139, 19), (3, "donuts_shape", "mdt", 1, 4139 - 27, 19),
        (3, "circles_scale", "mdt", 0, 3695, 19), (3, "circles_scale", "mdt", 1, 4224, 20),
        (3, "donuts_shape", "paper", 0, 552, 10), (3, "donuts_shape", "paper", 1, 552 - 8, 10),
        (3, "circles_scale", "paper", 0, 389, 9), (3, "circles_scale", "paper", 1, 552, 10),
    ],
)  # fmt: skip
def test_objects_have_the_published_size_and_are_symmetric(ndim, task, preset, label, voxels, extent):
    _, mask = uncut(task, preset, label, ndim)
    positions = np.argwhere(mask)
    lower, upper = positions.min(axis=0), positions.max(axis=0) + 1
    assert mask.sum() == voxels
    assert (upper - lower).tolist() == [extent] * ndim
    drawn = mask[tuple(map(slice, lower, upper))]
    for axis in range(ndim):
        assert np.array_equal(drawn, np.flip(drawn, axis))
        assert np.array_equal(drawn, np.swapaxes(drawn, 0, axis))


@pytest.mark.parametrize(("preset", "size", "extents"), [("paper", 64, {2: (19, 20), 3: (9, 10)}),
                                                         ("mdt", 96, {2: (37, 39), 3: (19, 20)})])  # fmt: skip
def test_the_class_of_the_scale_task_is_in_the_box(ndim, preset, size, extents, tmp_path):
    make_toy(tmp_path, "circles_scale", preset, ndim=ndim, num_train=30, num_val=0, num_test=0, size=size)
    dataset = open_dataset(tmp_path)
    seen = {0: [], 1: []}
    for case in dataset.train:
        instances = read_case(case, dataset).instances
        seen[int(instances.labels[0])].append((instances.boxes[0, 1] - instances.boxes[0, 0]).max())
    assert (max(seen[0]), max(seen[1])) == extents[ndim]


def test_the_hole_of_the_pattern_task_is_in_the_image_only():
    contrast = {"inside": [], "hole": []}
    for seed in range(60):
        image, label_map, label = toy_image("donuts_pattern", "mdt", (160, 160), np.random.default_rng(seed))
        centre = np.argwhere(label_map).mean(axis=0)
        distance = np.hypot(*(np.indices(image.shape) - centre[:, None, None]))
        if label == 1 and np.argwhere(label_map).min() > 0:
            contrast["hole"] += image[distance < 3].tolist()
            contrast["inside"] += image[(distance > 6) & (distance < 18)].tolist()
    assert np.mean(contrast["inside"]) == pytest.approx(0.7, abs=0.01)  # uniform noise of mean 0.5, and 0.2
    assert np.mean(contrast["hole"]) == pytest.approx(0.5, abs=0.03)


def test_noise_is_uniform_and_classes_are_balanced():
    labels = []
    for seed in range(300):
        image, label_map, label = toy_image("donuts_shape", "mdt", (40, 40), np.random.default_rng(seed))
        labels.append(label)
        assert image.dtype == np.float32
        assert 0 <= image[label_map == 0].min() < image[label_map == 0].max() < 1
        assert 0.2 <= image[label_map == 1].min() < image.max() < 1.2
    assert 120 < sum(labels) < 180


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_toy_data_set_is_a_sound_native_data_set(ndim, task, preset, tmp_path):
    make_toy(tmp_path / "toy", task, preset, ndim=ndim, **SMALL)
    dataset = open_dataset(tmp_path / "toy")
    assert (len(dataset.train), len(dataset.test), dataset.classes) == (9, 4, TASKS[task])
    (fold,) = dataset.splits
    assert {part: len(ids) for part, ids in fold.items()} == {"train": 6, "val": 3, "test": 4}
    cases = [read_case(case, dataset) for case in dataset.cases]
    assert all(len(case.instances) == 1 for case in cases)
    assert len({case.image.array.tobytes() for case in cases}) == 13
    assert not [finding for finding in check(tmp_path / "toy") if finding.severity == "error"]


def test_balls_fit_into_the_default_volume(tmp_path):
    make_toy(tmp_path, "donuts_shape", ndim=3, num_train=1, num_val=0, num_test=12)
    dataset = open_dataset(tmp_path)
    boxes = np.concatenate([read_case(case, dataset).instances.boxes for case in dataset.test])
    assert read_case(dataset.test[0], dataset).image.array.shape == (1, 64, 64, 64)
    assert (boxes[:, 1] - boxes[:, 0]).max() == 19  # radius 10, half of the one in 2D: 2 * 10 - 1


def test_a_larger_set_begins_with_the_smaller_and_another_seed_gives_other_images(tmp_path):
    for name, options in {"small": {}, "large": {"num_train": 8}, "other": {"seed": 1}}.items():
        make_toy(tmp_path / name, **{**SMALL, **options})
    small, large, other = (contents(tmp_path / name) for name in ("small", "large", "other"))
    images = [name for name in small if name.startswith("images")]
    assert len(images) == 13
    assert all(small[name] == large[name] != other[name] for name in images)


def test_an_interrupted_set_is_completed_without_redoing_the_rest(tmp_path):
    class Killed(Exception):  # noqa: N818
        pass

    def kill(what, done, total):
        if done == 7:
            raise Killed

    with pytest.raises(Killed):
        make_toy(tmp_path / "killed", progress=kill, **SMALL)
    assert not (tmp_path / "killed" / "dataset.json").exists()
    kept = tmp_path / "killed" / "imagesTr" / "train_00002_0000.mha"
    stamp = kept.stat().st_mtime_ns
    make_toy(tmp_path / "killed", **SMALL)
    make_toy(tmp_path / "undisturbed", **SMALL)
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    assert kept.stat().st_mtime_ns == stamp


def test_other_settings_and_foreign_folders_are_left_alone(tmp_path):
    make_toy(tmp_path / "toy", **SMALL)
    before = contents(tmp_path / "toy")
    with pytest.raises(ValueError, match=r"other settings, .*'seed': 0"):
        make_toy(tmp_path / "toy", seed=1, **SMALL)
    assert contents(tmp_path / "toy") == before
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.docx").write_text("years of work")
    with pytest.raises(ValueError, match="`boxel toy` did not write there; choose a new or empty folder"):
        make_toy(tmp_path / "foreign", **SMALL)
    assert contents(tmp_path / "foreign") == {"thesis.docx": b"years of work"}


def as_before_version_2(root):
    """Make the folder one that a Boxel without versions of the drawing wrote."""
    record = json.loads((root / "toy.json").read_text())
    del record["version"]
    (root / "toy.json").write_text(json.dumps(record))


@pytest.mark.parametrize(("task", "preset", "ndim", "changed"), [
    ("donuts_shape", "paper", 2, True), ("circles_scale", "mdt", 3, True), ("donuts_shape", "paper", 3, True),
    ("circles_scale", "mdt", 2, False), ("donuts_pattern", "mdt", 3, False),
])  # fmt: skip
def test_images_that_are_drawn_otherwise_today_are_not_mixed_with_older_ones(task, preset, ndim, changed, tmp_path):
    options = {"num_train": 1, "num_val": 0, "num_test": 0, "size": 32, "ndim": ndim}
    make_toy(tmp_path / "toy", task, preset, **options)
    as_before_version_2(tmp_path / "toy")
    before = contents(tmp_path / "toy")
    if changed:
        with pytest.raises(
            ValueError, match=r"an earlier Boxel drew these toy images.*choose another folder, or remove"
        ):
            make_toy(tmp_path / "toy", task, preset, **options)
        assert contents(tmp_path / "toy") == before
    else:
        make_toy(tmp_path / "toy", task, preset, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "donut_shape"}, "did you mean 'donuts_shape'"),
        ({"preset": "MDT"}, "did you mean 'mdt'|Known: mdt, paper"),
        ({"ndim": 4}, "choose 2 or 3"),
        ({"size": 20}, "more than 20 voxels"),
        ({"num_train": 0}, "at least one"),
        ({"num_test": -1}, "negative"),
    ],
)
def test_impossible_settings_are_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        make_toy(tmp_path / "toy", **options)
    assert not (tmp_path / "toy").exists()

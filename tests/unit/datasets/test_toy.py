"""The papers' toy data: the specified shapes, every image distinct, safe to interrupt."""

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import check
from boxel.datasets.toy import PRESETS, TASKS, make_toy, toy_image

SMALL = {"num_train": 6, "num_val": 3, "num_test": 4, "size": 64}


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def uncut(task, preset, label):
    """An image of the class whose object is not cut by the border."""
    for seed in range(100):
        image, label_map, found = toy_image(task, preset, (320, 320), np.random.default_rng(seed))
        inside = np.argwhere(label_map)
        if found == label and inside.min() > 0 and inside.max() < 319:
            return image, label_map.astype(bool)
    raise AssertionError("no such image")


# Areas and extents that the public toolkit's generator gives: 39 px and 1245 px for "diameter" 20, 37 px and
# 1125 px for 19, a hole of 45 px. Those of the paper's literal diameters are counts of lattice points:
# 305 with x^2 + y^2 < 100, 9 with < 4.
@pytest.mark.parametrize(
    ("task", "preset", "label", "area", "extent"),
    [
        ("donuts_shape", "mdt", 0, 1245, 39),
        ("donuts_shape", "mdt", 1, 1245 - 45, 39),
        ("donuts_pattern", "mdt", 1, 1245, 39),
        ("circles_scale", "mdt", 0, 1125, 37),
        ("circles_scale", "mdt", 1, 1245, 39),
        ("donuts_shape", "paper", 0, 305, 19),
        ("donuts_shape", "paper", 1, 305 - 9, 19),
    ],
)
def test_objects_have_the_published_size(task, preset, label, area, extent):
    _, mask = uncut(task, preset, label)
    positions = np.argwhere(mask)
    assert mask.sum() == area
    assert (positions.max(axis=0) + 1 - positions.min(axis=0)).tolist() == [extent, extent]


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
    assert (boxes[:, 1] - boxes[:, 0]).max() == 19  # radius 10, half of the one in 2D


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

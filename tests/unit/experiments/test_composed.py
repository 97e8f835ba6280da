"""Data sets cut out of others: what a window shows is what the original shows, and no part shares voxels."""

import hashlib

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats.native_writer import annotation_file, write_case, write_dataset
from boxel.datasets.label_maps import tight_boxes
from boxel.datasets.split import dataset_splits
from boxel.experiments import composed
from boxel.experiments.composed import EnlargedObjects, Quarters, Window
from boxel.experiments.sources import DataFolder, PatientSplit, ValidationPart
from boxel.types import Geometry, Image, silent


def write_discs(root, count=12, size=48):
    """Two images of each patient, with three discs of distinct sizes and values."""
    groups = {}
    for number in range(count):
        label_map = np.zeros((size, size), np.uint8)
        for disc, (row, column) in enumerate(((10, 10), (10, 34), (34, 20)), start=1):
            y, x = np.indices(label_map.shape)
            label_map[(y - row) ** 2 + (x - column) ** 2 <= (disc + 2 + number / count) ** 2] = disc
        image = Image(np.stack([label_map * 60.0, label_map * 20.0]).astype(np.float32), Geometry.plain((size, size)))
        write_case(root, f"c{number:02d}", image, label_map, {1: 0, 2: 0, 3: 0}, suffix=".mha")
        groups[f"c{number:02d}"] = f"p{number // 2}"
    write_dataset(root, "discs", 2, ["disc"], ["a", "b"], groups)
    return DataFolder(path=str(root))


def write_volume(root, rng, shape=(6, 20, 24)):
    """A volume whose voxels are all distinct, with a block in each quarter and one across the middle."""
    values = rng.permutation(int(np.prod(shape))).reshape(1, *shape).astype(np.float32)
    label_map = np.zeros(shape, np.uint8)
    for number, (row, column) in enumerate(((2, 2), (2, 18), (14, 2), (14, 18), (8, 4)), start=1):
        label_map[1:4, row : row + 3, column : column + 3] = number
    write_case(root, "v", Image(values, Geometry.plain(shape)), label_map, dict.fromkeys(range(1, 6), 0), suffix=".mha")
    write_dataset(root, "volumes", 3, ["block"], ["grey"])
    return DataFolder(path=str(root)), values[0], label_map


def hash_of_files(folder):
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_a_window_keeps_objects_seen_by_half_and_ignores_the_others():
    label_map = np.zeros((8, 8), np.int32)
    label_map[0:2, 0:4], label_map[3:5, 1:5], label_map[6:8, 3:7] = 1, 2, 3
    window = Window.cut(np.arange(64.0).reshape(1, 8, 8), label_map, np.array([0, 2]), np.array([8, 3]))
    assert window.image[0, 0].tolist() == [2, 3, 4]
    assert set(np.unique(window.label_map)) == {0, 1, 2, 3}
    assert window.hidden_ids.tolist() == []
    narrow = Window.cut(np.zeros((1, 8, 8)), label_map, np.array([0, 3]), np.array([8, 5]))
    assert set(np.unique(narrow.label_map)) == {0, 2, 3}
    assert (narrow.hidden_ids.tolist(), narrow.hidden.tolist()) == ([1], [[[0, 0], [2, 1]]])


def test_enlarged_objects_keep_their_parts_and_have_classes_of_equal_numbers(tmp_path):
    source = EnlargedObjects(images=PatientSplit(folder=write_discs(tmp_path / "discs"), val=0.34), factor=4, size=96)
    originals, dataset = source.images.open(tmp_path, silent), source.open(tmp_path / "large", silent)
    assert (dataset.classes, dataset.channels, dataset.ndim) == (("small", "medium", "large"), ("grey",), 2)
    split, own = dataset_splits(originals)[0], dataset_splits(dataset)[0]
    assert dict(split) == dict(own)
    limits = np.quantile([(read_case(originals[c], originals).label_map == n).sum() for c in split.train
                          for n in (1, 2, 3)], (1 / 3, 2 / 3))  # fmt: skip
    for case in dataset.cases:
        loaded, original = read_case(case, dataset), read_case(originals[case.id], originals)
        assert loaded.image.geometry.shape == (96, 96)
        assert len(loaded.instances)
        assert loaded.instances.boxes.tolist() == tight_boxes(loaded.label_map)[1].tolist()
        for number, label in zip(loaded.instances.ids, loaded.instances.labels, strict=True):
            area = (original.label_map == number).sum()
            assert label == sum(area >= limit for limit in limits)
            seen = (loaded.label_map == number).sum()
            assert 8 * area <= seen <= 16 * area
            inside = loaded.image.array[0][loaded.label_map == number]
            assert np.median(inside) == 40 * number, "the pixels are those of the object"


def test_windows_are_the_same_when_written_again_and_after_an_interruption(tmp_path, monkeypatch):
    source = EnlargedObjects(images=PatientSplit(folder=write_discs(tmp_path / "discs"), val=0.34), factor=2, size=48)
    source.open(tmp_path / "whole", silent)

    def full(folder, name, *args, **kwargs):
        if name == "c07":
            raise OSError("disk full")
        write_case(folder, name, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(composed, "write_case", full)
        with pytest.raises(OSError, match="full"):
            source.open(tmp_path / "broken", silent)
    assert not (tmp_path / "broken" / "dataset.json").exists()
    before = annotation_file(tmp_path / "broken", "c00", "train").stat().st_mtime_ns
    source.open(tmp_path / "broken", silent)
    assert annotation_file(tmp_path / "broken", "c00", "train").stat().st_mtime_ns == before
    assert hash_of_files(tmp_path / "broken") == hash_of_files(tmp_path / "whole")


def test_quarters_share_no_voxel_and_lose_none(tmp_path, rng):
    folder, values, label_map = write_volume(tmp_path / "volume", rng)
    dataset = Quarters(volumes=(folder,)).open(tmp_path / "quarters", silent)
    split = dataset_splits(dataset)[0]
    assert [len(split.train), len(split.val), len(split.test)] == [2, 1, 1]
    shown = []
    for case in dataset.cases:
        loaded = read_case(case, dataset)
        shown += loaded.image.array.ravel().tolist()
        for number, box in zip(loaded.instances.ids, loaded.instances.boxes, strict=True):
            inside = loaded.image.array[0][loaded.label_map == number]
            assert set(inside) <= set(values[label_map == number])
            assert 2 * len(inside) >= (label_map == number).sum()
            assert box.tolist() == tight_boxes(loaded.label_map == number)[1][0].tolist()
    assert sorted(shown) == sorted(values.ravel())
    assert sum(len(read_case(case, dataset).ignored or ()) for case in dataset.cases) == 1, "a third of the fifth block"


def test_the_validation_part_replaces_the_test_part_and_its_cases_are_gone(tmp_path):
    source = PatientSplit(folder=write_discs(tmp_path / "discs"), test=0.34, val=0.34)
    whole = dataset_splits(source.open(tmp_path, silent))[0]
    dataset = ValidationPart(source=source, val=0.5).open(tmp_path, silent)
    split = dataset_splits(dataset)[0]
    assert split.test == whole.val
    assert {*split.train, *split.val} == set(whole.train)
    assert split.val
    assert {case.id for case in dataset.cases} == {*whole.train, *whole.val}
    groups = [{dataset[name].group for name in part} for _, part in split]
    assert not any(a & b for k, a in enumerate(groups) for b in groups[k + 1 :])


def test_objects_without_masks_cannot_be_cut_up(tmp_path):
    boxes = composed.Instances.empty(3)
    image = Image(np.zeros((1, 4, 8, 8), np.float32), Geometry.plain((4, 8, 8)))
    write_case(tmp_path / "boxes", "v", image, None, {}, boxes=boxes)
    write_dataset(tmp_path / "boxes", "boxes", 3, ["block"], ["grey"])
    with pytest.raises(ValueError, match="objects all have masks"):
        Quarters(volumes=(DataFolder(path=str(tmp_path / "boxes")),)).open(tmp_path / "out", silent)

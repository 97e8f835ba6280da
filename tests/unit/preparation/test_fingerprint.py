"""The fingerprint: numbers that can be checked by hand on small data sets."""

import json

import numpy as np
import pytest

from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.inputs.texts import read_json
from boxel.preparation import measure as module
from boxel.preparation.fingerprint import Fingerprint
from boxel.preparation.measure import measure as fingerprint
from boxel.types import Geometry, Image


def add(root, name, array, boxes=(), *, spacing=1.0, split="train", suffix=".nii.gz"):
    """A case with one cubic object per `(lower, edge, class)`, filled into its label map."""
    array = np.asarray(array, np.float32)
    label_map = np.zeros(array.shape[1:], np.uint8)
    labels = {}
    for number, (lower, edge, label) in enumerate(boxes, start=1):
        label_map[tuple(slice(low, low + edge) for low in lower)] = number
        labels[number] = label
    geometry = Geometry.plain(array.shape[1:], (spacing,) * label_map.ndim)
    write_case(root, name, Image(array, geometry), label_map, labels, split=split, suffix=suffix)


def finish(root, ndim, channels=("MRI",)):
    write_dataset(root, "small", ndim, ("a", "b"), channels)
    return open_dataset(root)


def test_sizes_and_counts_are_those_of_the_objects(tmp_path, ndim):
    blank = np.zeros((1,) + (20,) * ndim)
    add(tmp_path, "c0", blank, [((1,) * ndim, 4, 0), ((10,) * ndim, 8, 1)], spacing=2.0)
    add(tmp_path, "c1", blank, [((3,) * ndim, 6, 0)], spacing=0.5)
    add(tmp_path, "c2", blank)
    found = fingerprint(finish(tmp_path, ndim))
    assert [(case.shape, case.spacing) for case in found.cases] == [
        ((20,) * ndim, (spacing,) * ndim) for spacing in (2.0, 0.5, 1.0)
    ]
    assert found.cases[0].sizes == ((4.0,) * ndim, (8.0,) * ndim)
    assert (found.objects["a"].count, found.objects["a"].cases, found.objects["b"].count) == (2, 2, 1)
    assert found.objects["a"].size_voxels["50%"] == (5.0,) * ndim
    assert found.objects["a"].size_mm["50%"] == (5.5,) * ndim  # of 8 and 3 mm
    assert found.objects_per_image == {"least": 0, "median": 1, "most": 2, "images_without": 1}


def test_preparation_warns_of_what_a_reader_had_to_assume_and_of_inverted_masks(tmp_path, ndim, caplog):
    blank = np.zeros((1,) + (20,) * ndim)
    add(tmp_path, "c0", blank, [((3,) * ndim, 6, 0)])
    add(tmp_path, "c1", blank, [((0,) * ndim, 20, 0)])
    dataset = finish(tmp_path, ndim)
    for _ in range(2):  # also from the cache
        caplog.clear()
        fingerprint(dataset, cache=tmp_path / "cache")
        (record,) = caplog.records
        assert record.getMessage() == (
            "1 of 2 training cases has a remark, such as c1: an object is as large as the whole image; "
            f"boxel check {tmp_path} lists all"
        )


def test_intensities_are_those_of_objects_and_their_surroundings(tmp_path, ndim):
    array = np.full((2,) + (40,) * ndim, -1000.0)
    array[(slice(None),) + (slice(8, 22),) * ndim] = 0.0  # surroundings
    array[(slice(None),) + (slice(10, 20),) * ndim] = 100.0
    add(tmp_path, "c0", array, [((10,) * ndim, 10, 0)])
    add(tmp_path, "c1", np.full_like(array, 777.0))  # no object: no say
    found = fingerprint(finish(tmp_path, ndim, ("CT", "PET")))
    assert found.intensities_of == "objects"
    assert [channel.channel for channel in found.intensities] == ["CT", "PET"]
    share = 10**ndim / 16**ndim  # a quarter of 10 voxels, rounded up to whole ones, on each side
    outside = 1 - 14**ndim / 16**ndim
    for channel in found.intensities:
        assert channel.mean == pytest.approx(100 * share - 1000 * outside, abs=3)
        assert (channel.minimum, channel.maximum) == (-1000, 100)


def test_without_any_object_whole_images_are_measured(tmp_path):
    add(tmp_path, "c0", np.arange(400.0).reshape(1, 20, 20))
    found = fingerprint(finish(tmp_path, 2))
    assert found.intensities_of == "images"
    assert found.intensities[0].mean == pytest.approx(199.5)
    assert found.intensities[0].percentile_99_5 == pytest.approx(397, abs=1)


def test_the_sample_of_a_large_image_has_its_percentiles(tmp_path):
    values = np.random.default_rng(0).normal(50, 10, (1, 300, 300))
    add(tmp_path, "c0", values)
    (channel,) = fingerprint(finish(tmp_path, 2)).intensities
    values = values.astype(np.float32)
    assert channel.percentile_00_5 == pytest.approx(np.percentile(values, 0.5), abs=0.3)
    assert channel.percentile_99_5 == pytest.approx(np.percentile(values, 99.5), abs=0.3)
    assert (channel.mean, channel.std) == (
        pytest.approx(values.mean(), abs=0.1),
        pytest.approx(values.std(), rel=0.01),
    )


def test_of_very_many_cases_fewer_values_are_kept_with_the_same_percentiles(tmp_path, monkeypatch):
    for k in range(6):
        add(tmp_path, f"c{k}", np.random.default_rng(k).normal(50 + k, 10, (1, 60, 60)))
    dataset, pooled = finish(tmp_path, 2), []
    pool = module._pool
    monkeypatch.setattr(module, "_pool", lambda *given: pooled.append(pool(*given)) or pooled[-1])
    every = fingerprint(dataset)
    monkeypatch.setattr(module, "MOST_VALUES", 6 * module.SAMPLE_SIZE)
    assert fingerprint(dataset) == every
    monkeypatch.setattr(module, "MOST_VALUES", 6 * 200)
    (few,), (many,) = fingerprint(dataset).intensities, every.intensities
    assert [len(values) for values in pooled] == [6000, 6000, 1200]
    for name in ("mean", "median", "std", "percentile_00_5", "percentile_99_5"):
        assert getattr(few, name) == pytest.approx(getattr(many, name), abs=0.8)


def test_test_cases_are_never_measured(tmp_path):
    add(tmp_path, "c0", np.zeros((1, 20, 20)), [((2, 2), 4, 0)])
    add(tmp_path, "t0", np.full((1, 30, 30), 1e6), [((2, 2), 9, 1)], split="test")
    found = fingerprint(finish(tmp_path, 2))
    assert [case.id for case in found.cases] == ["c0"]
    assert found.objects["b"].count == 0
    assert found.intensities[0].maximum == 0


def test_the_json_holds_everything_with_one_line_per_case(tmp_path):
    for k in range(3):
        add(
            tmp_path / "data",
            f"c{k}",
            np.random.default_rng(k).normal(size=(1, 20, 20)),
            [((2, 2), 4 + k, 0)],
        )
    found = fingerprint(finish(tmp_path / "data", 2))
    found.save(tmp_path / "fingerprint.json")
    assert Fingerprint.load(tmp_path / "fingerprint.json") == found
    rows = [line for line in (tmp_path / "fingerprint.json").read_text().splitlines() if '"sizes"' in line]
    assert [json.loads(row.strip().rstrip(","))["id"] for row in rows] == ["c0", "c1", "c2"]


def test_a_second_fingerprint_reads_only_the_cases_that_changed(tmp_path, monkeypatch):
    for k in range(4):
        add(tmp_path / "data", f"c{k}", np.full((1, 20, 20), k), [((2, 2), 4, 0)])
    dataset, cache = finish(tmp_path / "data", 2), tmp_path / "cache"
    first = fingerprint(dataset, cache=cache, workers=0)
    add(tmp_path / "data", "c2", np.full((1, 20, 20), 9.0), [((2, 2), 4, 0)])
    read = []
    original = module.read_case
    monkeypatch.setattr(module, "read_case", lambda case, dataset: read.append(case.id) or original(case, dataset))
    second = fingerprint(dataset, cache=cache, workers=0)
    assert read == ["c2"]
    assert second == fingerprint(dataset)
    assert second != first


def test_touched_but_equal_files_are_not_read_again_as_images(tmp_path, monkeypatch):
    add(tmp_path / "data", "c0", np.zeros((1, 20, 20)), [((2, 2), 4, 0)])
    dataset = finish(tmp_path / "data", 2)
    fingerprint(dataset, cache=tmp_path / "cache")
    for path in (tmp_path / "data").rglob("*c0*"):
        path.write_bytes(path.read_bytes())
    monkeypatch.setattr(module, "read_case", None)
    fingerprint(dataset, cache=tmp_path / "cache")
    assert read_json(tmp_path / "cache" / "c0.measured.json")["record"]["id"] == "c0"


def test_threads_change_nothing_and_progress_counts_up_to_all(tmp_path):
    for k in range(5):
        add(tmp_path, f"c{k}", np.random.default_rng(k).normal(size=(1, 20, 20)), [((2, 2), 4, 0)])
    dataset, calls = finish(tmp_path, 2), []
    one = fingerprint(dataset, workers=0)
    assert fingerprint(dataset, workers=3, progress=lambda *call: calls.append(call)) == one
    assert calls[-1] == ("measuring", 5, 5)
    assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)


def test_a_bad_case_stops_with_its_file(tmp_path):
    add(tmp_path, "c0", np.zeros((1, 20, 20)))
    add(tmp_path, "c1", np.full((1, 20, 20), np.nan), suffix=".nrrd")
    with pytest.raises(ValueError, match=r"c1_0000.*NaN"):
        fingerprint(finish(tmp_path, 2))

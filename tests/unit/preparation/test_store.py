"""The store: what it holds, and reading any region of it."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.preparation import prepare_case as stored_case
from boxel.preparation.plan import PlanConfig
from boxel.preparation.prepare import prepare
from boxel.preparation.preprocess import preprocess
from boxel.preparation.stored_case import CaseMeta
from boxel.types import Geometry, Image


def add(root, name, ndim, *, seed=0, edge=24, spacing=1.0, empty=False, split="train", boxes=()):
    """A noisy image with two cubic objects, or none."""
    rng = np.random.default_rng(seed)
    shape = tuple(edge + 2 * axis for axis in range(ndim))
    label_map = np.zeros(shape, np.uint8)
    if not empty:
        label_map[(slice(2, 8),) * ndim] = 3
        label_map[(slice(12, 16),) * ndim] = 7
    image = Image(rng.normal(size=(1, *shape)).astype(np.float32), Geometry.plain(shape, (spacing,) * ndim))
    labels = {} if empty else {3: 0, 7: 1}
    write_case(root, name, image, label_map, labels, split=split)
    if boxes:
        annotation = next(root.rglob(f"{name}.json"))
        values = json.loads(annotation.read_text())
        values["boxes"] = [{"id": 9, "label": 1, "lower": low, "upper": high} for low, high in boxes]
        annotation.write_text(json.dumps(values))


def dataset_of(root, ndim, count=4):
    for k in range(count):
        add(root, f"c{k}", ndim, seed=k, empty=k == 1)
    write_dataset(root, "small", ndim, ("a", "b"), ("MRI",))
    return open_dataset(root)


def test_a_store_holds_the_preprocessed_images_and_their_label_maps(tmp_path, ndim):
    dataset = dataset_of(tmp_path / "data", ndim)
    store = prepare(dataset, tmp_path / "work")
    assert store.ids == ("c0", "c1", "c2", "c3")
    assert store.task.ndim == ndim
    for case in dataset.cases:
        loaded = read_case(case, dataset)
        image, label_map = store.read(case.id)
        expected = preprocess(loaded.image, store.task).array
        assert np.abs(image - expected).max() <= np.ptp(expected) / 65535 / 2 + 1e-6
        np.testing.assert_array_equal(label_map, loaded.label_map)
        assert (image.dtype, label_map.dtype) == (np.float32, np.int32)
        meta = store.meta(case.id)
        assert meta.original == loaded.image.geometry
        np.testing.assert_array_equal(meta.instances.boxes, loaded.instances.boxes)
    assert store.meta("c0").instances.ids.tolist() == [3, 7]
    assert store.meta("c0").instances.labels.tolist() == [0, 1]
    assert store.meta("c1").instances.boxes.shape == (0, 2, ndim)
    assert store.fingerprint.objects["a"].count == 3


def test_any_region_can_be_read_also_beyond_the_image(tmp_path, ndim):
    store = prepare(dataset_of(tmp_path / "data", ndim), tmp_path / "work")
    image, label_map = store.read("c2")
    margin, shape = 40, np.array(store.meta("c2").shape)
    wide = np.pad(image, [(0, 0)] + [(margin, margin)] * ndim, constant_values=image.min())
    wide_map = np.pad(label_map, margin)
    rng = np.random.default_rng(0)
    for _ in range(50):
        lower = rng.integers(-margin, shape + margin)
        upper = np.minimum(lower + rng.integers(0, 40, ndim), shape + margin)
        region = tuple(slice(low + margin, high + margin) for low, high in zip(lower, upper, strict=True))
        found, found_map = store.read("c2", lower, upper)
        np.testing.assert_array_equal(found, wide[(slice(None), *region)])
        np.testing.assert_array_equal(found_map, wide_map[region])
        found[...], found_map[...] = 0, 0  # regions are the caller's


def test_objects_without_mask_and_boxes_only_are_kept_in_both_spaces(tmp_path, ndim):
    root = tmp_path / "data"
    for k in range(3):
        add(root, f"c{k}", ndim, seed=k, spacing=0.5, boxes=[([4.5] * ndim, [10.0] * ndim)])
    write_dataset(root, "small", ndim, ("a", "b"), ("MRI",))
    store = prepare(open_dataset(root), tmp_path / "work", PlanConfig(spacing=(1.0,) * ndim))
    meta = store.meta("c0")
    assert meta.shape == tuple(n // 2 for n in meta.original.shape)
    np.testing.assert_array_equal(meta.original_instances.boxes[2], [[4.5] * ndim, [10.0] * ndim])
    np.testing.assert_array_equal(meta.instances.boxes[2], [[2.25] * ndim, [5.0] * ndim])
    np.testing.assert_array_equal(meta.instances.boxes[0], [[1.0] * ndim, [4.0] * ndim])
    assert meta.instances.has_mask.tolist() == [True, True, False]
    assert set(np.unique(store.read("c0")[1])) == {0, 3, 7}


def test_an_object_lost_in_resampling_is_still_an_object(tmp_path, ndim):
    root = tmp_path / "data"
    for k in range(3):
        label_map = np.zeros((20,) * ndim, np.uint8)
        label_map[(slice(8, 9),) * ndim] = 1
        image = Image(np.random.default_rng(k).normal(size=(1, *label_map.shape)), Geometry.plain(label_map.shape))
        write_case(root, f"c{k}", image, label_map, {1: 0})
    write_dataset(root, "small", ndim, ("a",), ("MRI",))
    store = prepare(open_dataset(root), tmp_path / "work", PlanConfig(spacing=(5.0,) * ndim))
    assert not store.read("c0")[1].any()
    assert store.meta("c0").instances.has_mask.tolist() == [False]
    assert store.meta("c0").original_instances.has_mask.tolist() == [True]
    np.testing.assert_allclose(store.meta("c0").instances.boxes, [[[1.6] * ndim, [1.8] * ndim]], rtol=1e-6)


def test_slice_wise_stores_keep_the_images_axes(tmp_path):
    store = prepare(dataset_of(tmp_path / "data", 3), tmp_path / "work", PlanConfig(ndim=2, context=1))
    assert store.task.ndim == 2
    assert len(store.meta("c0").shape) == 3
    image, label_map = store.read("c0", (5, 0, 0), (8, 20, 20))
    assert (image.shape, label_map.shape) == ((1, 3, 20, 20), (3, 20, 20))


def test_a_store_travels_to_other_processes_and_serves_threads(tmp_path):
    store = prepare(dataset_of(tmp_path / "data", 2), tmp_path / "work")
    store.read("c0")
    copy = pickle.loads(pickle.dumps(store))
    expected = [store.read(case_id)[0] for case_id in store.ids]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda case_id: copy.read(case_id)[0], store.ids * 20))
    for k, image in enumerate(found):
        np.testing.assert_array_equal(image, expected[k % len(expected)])


def test_an_array_cut_short_is_named_and_made_again(tmp_path):
    dataset = dataset_of(tmp_path / "data", 2)
    store = prepare(dataset, tmp_path / "work")
    path = tmp_path / "work" / "cases" / "c0.b2nd"
    before = path.read_bytes()
    path.write_bytes(before[:100])
    with pytest.raises(ValueError, match=r"c0\.b2nd: cannot be read .* boxel prepare again"):
        store.read("c0")
    assert "1 of 4 cases prepared, 3 were ready" in prepare(dataset, tmp_path / "work").notes
    assert path.read_bytes() == before


def test_boxes_of_a_case_that_do_not_fit_together_name_its_file(tmp_path):
    prepare(dataset_of(tmp_path / "data", 2), tmp_path / "work")
    path = tmp_path / "work" / "cases" / "c0.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"boxes": [[[1.0, 2.0], [3.0, 4.0, 5.0]]]}))
    with pytest.raises(ValueError, match=r"c0\.json: its boxes do not fit together \(.*; prepare again"):
        CaseMeta.load(path)


def test_the_manifest_tells_equal_stores_from_different_ones(tmp_path, ndim):
    def contents(name, dataset):
        prepare(dataset, tmp_path / name)
        return json.loads((tmp_path / name / "manifest.json").read_text())["contents"]

    first = contents("a", dataset_of(tmp_path / "data", ndim))
    assert contents("b", dataset_of(tmp_path / "copy", ndim)) == first
    add(tmp_path / "copy", "c2", ndim, seed=77)
    changed = contents("b", open_dataset(tmp_path / "copy"))
    assert {case_id for case_id in first if first[case_id] != changed[case_id]} == {"c2"}


@pytest.mark.parametrize(("lower", "upper"), [((0,), (4, 4)), ((5, 5), (4, 9))])
def test_an_impossible_region_is_refused(tmp_path, lower, upper):
    store = prepare(dataset_of(tmp_path / "data", 2), tmp_path / "work")
    with pytest.raises(ValueError, match="one number per axis"):
        store.read("c0", lower, upper)


def test_blocks_are_thin_only_along_slices():
    assert stored_case._cube((1, 300, 300, 300), 2**14, 1) == (1, 16, 32, 32)
    assert stored_case._cube((1, 300, 300, 300), 2**14, 2) == (1, 1, 128, 128)
    assert stored_case._cube((2, 5, 40), 2**14, 1) == (1, 5, 40)

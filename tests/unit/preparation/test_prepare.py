"""Preparation: resumable, interruptible, and never half done without saying so."""

import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.native_writer import write_case, write_dataset, write_splits
from boxel.inputs.texts import read_json
from boxel.preparation.plan import PlanConfig
from boxel.preparation.prepare import prepare
from boxel.preparation.preprocess import preprocess
from boxel.preparation.store import Store
from boxel.types import Geometry, Image, Split

FEWER = "4 folds instead of 5, because the training cases are of 4 groups (patients)"


def add(root, name, *, seed=0, edge=24, split="train"):
    """A noisy image with two squares."""
    label_map = np.zeros((edge, edge + 2), np.uint8)
    label_map[2:8, 2:8], label_map[12:16, 12:16] = 3, 7
    image = np.random.default_rng(seed).normal(size=(1, *label_map.shape)).astype(np.float32)
    write_case(root, name, Image(image, Geometry.plain(label_map.shape)), label_map, {3: 0, 7: 1}, split=split)


def dataset_of(root):
    for k in range(4):
        add(root, f"c{k}", seed=k)
    write_dataset(root, "small", 2, ("a", "b"), ("MRI",))
    return open_dataset(root)


def content(store):
    """Everything in a store, by file."""
    return {path.relative_to(store.path): path.read_bytes() for path in store.path.rglob("*") if path.is_file()}


def test_preparing_again_does_nothing(tmp_path):
    dataset = dataset_of(tmp_path / "data")
    first = prepare(dataset, tmp_path / "work")
    before = content(first)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "cases").iterdir()}
    again = prepare(dataset, tmp_path / "work")
    assert content(again) == before
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "cases").iterdir()} == times
    assert again.notes == ("0 of 4 cases prepared, 4 were ready", FEWER)
    assert FEWER not in prepare(dataset, tmp_path / "work", num_folds=4).notes


def test_only_what_changed_is_prepared_again(tmp_path):
    root = tmp_path / "data"
    dataset = dataset_of(root)
    prepare(dataset, tmp_path / "work")
    add(root, "c2", seed=99)
    store = prepare(dataset, tmp_path / "work")
    assert "1 of 4 cases prepared, 3 were ready" in store.notes
    expected = preprocess(read_case(dataset["c2"], dataset).image, store.task).array
    np.testing.assert_allclose(store.read("c2")[0], expected, atol=np.ptp(expected) / 65535)

    finer = prepare(dataset, tmp_path / "work", PlanConfig(spacing=(0.5, 0.5)))
    assert finer.notes[0] == "4 of 4 cases prepared"
    assert "spacing" in finer.notes[1]
    assert finer.meta("c0").shape == tuple(2 * n for n in finer.meta("c0").original.shape)

    batch = prepare(dataset, tmp_path / "work", PlanConfig(spacing=(0.5, 0.5), batch_size=3))
    assert batch.notes == ("0 of 4 cases prepared, 4 were ready", "the plan changed: batch_size", FEWER)
    assert batch.task.batch_size == 3


def test_cases_that_left_the_data_set_leave_the_store(tmp_path):
    root = tmp_path / "data"
    prepare(dataset_of(root), tmp_path / "work")
    for path in [path for path in root.rglob("*") if path.name.startswith("c3")]:
        path.unlink()
    store = prepare(open_dataset(root), tmp_path / "work")
    assert store.ids == ("c0", "c1", "c2")
    assert not [path for path in content(store) if path.name.startswith("c3")]
    assert "1 case of an earlier preparation removed" in store.notes
    with pytest.raises(ValueError, match="no case 'c3' among its 3"):
        store.meta("c3")


KILLED = """
import os, signal, sys
from pathlib import Path
from boxel import config
from boxel.preparation import prepare_case as stored_case
from boxel.datasets.formats import open_dataset
from boxel.preparation.prepare import prepare
left = int(sys.argv[3])
replace = os.replace
def dying(source, target):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = dying
prepare(open_dataset(Path(sys.argv[1])), Path(sys.argv[2]), workers=0)
"""


@pytest.mark.parametrize("writes", [0, 3, 7, 10, 13, 20])
def test_a_killed_preparation_goes_on_to_the_same_result(tmp_path, writes):
    dataset = dataset_of(tmp_path / "data")
    work = tmp_path / "work"
    done = subprocess.run([sys.executable, "-c", KILLED, str(dataset.root), str(work), str(writes)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(ValueError, match="boxel prepare"):
        Store(work)
    assert content(prepare(dataset, work)) == content(prepare(dataset, tmp_path / "undisturbed"))


def test_an_interrupted_change_of_plan_is_no_complete_store(tmp_path, monkeypatch):
    dataset = dataset_of(tmp_path / "data")
    prepare(dataset, tmp_path / "work")
    monkeypatch.setattr("boxel.preparation.prepare.store_case", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepare(dataset, tmp_path / "work", PlanConfig(spacing=(0.7, 0.7)), workers=0)
    with pytest.raises(ValueError, match=r"interrupted; run boxel prepare DATASET --out .*work again"):
        Store(tmp_path / "work")


@pytest.mark.parametrize(
    ("number", "suggested_fix"), [(errno.ENOSPC, "free some space"), (errno.EACCES, "permissions")]
)
def test_a_full_or_forbidden_disk_is_named_and_finished_cases_are_kept(tmp_path, monkeypatch, number, suggested_fix):
    dataset = dataset_of(tmp_path / "data")
    replace = os.replace

    def failing(temporary, path):
        if path.name == "c2.b2nd":
            raise OSError(number, os.strerror(number))
        replace(temporary, path)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(ValueError, match=rf"c2.*cannot be written.*{suggested_fix}.*finished cases are kept"):
        prepare(dataset, tmp_path / "work", workers=0)
    monkeypatch.undo()
    assert "2 of 4 cases prepared, 2 were ready" in prepare(dataset, tmp_path / "work").notes


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    dataset = dataset_of(tmp_path / "data")
    before = sorted((tmp_path / "data").rglob("*"))
    with pytest.raises(ValueError, match="`boxel prepare` did not write there"):
        prepare(dataset, tmp_path / "data")
    assert sorted((tmp_path / "data").rglob("*")) == before
    with pytest.raises(ValueError, match=r"not a prepared folder; run boxel prepare"):
        Store(tmp_path / "data")
    with pytest.raises(ValueError, match=r"nowhere: not a prepared folder"):
        Store(tmp_path / "nowhere")


def test_test_cases_are_stored_but_not_measured_and_prescribed_folds_are_kept(tmp_path):
    root = tmp_path / "data"
    add(root, "t0", edge=90, split="test")
    write_splits(root, [{"train": ["c0", "c1"], "val": ["c2"], "test": ["c3", "t0"]}])
    store = prepare(dataset_of(root), tmp_path / "work")
    assert store.splits == [Split(train=("c0", "c1"), val=("c2",), test=("c3", "t0"))]
    assert [case.id for case in store.fingerprint.cases] == ["c0", "c1", "c2"]
    assert store.meta("t0").split == "test"
    assert store.read("t0")[0].shape == (1, 90, 92)


def test_the_files_of_a_store_are_readable_json(tmp_path):
    prepare(dataset_of(tmp_path / "data"), tmp_path / "work")
    names = ("dataset", "fingerprint", "task", "splits", "manifest")
    assert all(read_json(tmp_path / "work" / f"{name}.json") for name in names)
    assert read_json(tmp_path / "work" / "dataset.json")["source"] == str(tmp_path / "data")


def test_images_are_prepared_again_where_the_spacing_changes_from_mm_to_voxels(native, tmp_path, ndim):
    """Of (12, 14, 16) voxels of 1.5, 1 and 0.5 mm."""
    plan = PlanConfig(spacing=(1.0,) * ndim)
    store = prepare(open_dataset(native), tmp_path / "work", plan, workers=0)
    assert store.meta("a").shape == (18, 14, 8)[-ndim:]
    in_voxels = plan.override(["spacing_unit=voxel"])
    store = prepare(open_dataset(native), tmp_path / "work", in_voxels, workers=0)
    assert store.meta("a").shape == (12, 14, 16)[-ndim:]
    assert store.meta("a").instances.boxes[0].tolist() == [[2.0] * ndim, [6.0] * ndim]


def test_patients_have_pseudonyms_and_the_same_folds(tmp_path):
    root = tmp_path / "data"
    for k in range(6):
        add(root, f"c{k}", seed=k)
    patients = ["Roe", "Doe", "Poe"] * 2
    write_dataset(root, "small", 2, ("a", "b"), ("MRI",), {f"c{k}": name for k, name in enumerate(patients)})
    dataset = open_dataset(root)
    named, kept = (
        prepare(dataset, tmp_path / f"work{keep}", num_folds=3, keep_identifiers=keep) for keep in (False, True)
    )
    assert [kept.meta(case).group for case in kept.ids] == patients
    groups = [named.meta(case).group for case in named.ids]
    assert groups[:3] == groups[3:]
    assert len(set(groups)) == 3
    assert not [path for path, text in content(named).items() if b"Roe" in text or b"Doe" in text]
    assert named.splits == kept.splits
    assert prepare(dataset, tmp_path / "workFalse", num_folds=3).notes == ("0 of 6 cases prepared, 6 were ready",)

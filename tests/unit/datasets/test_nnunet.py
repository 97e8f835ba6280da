"""nnU-Net's and the Decathlon's layouts: components of a class become objects."""

import json
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import check, examine
from boxel.io import write_image, write_label_map
from boxel.preparation.prepare import prepare
from boxel.types import Geometry, Image


@pytest.fixture
def semantic(tmp_path, ndim):
    """Two cases with three components: class 1 twice (touching at a corner), class 2 once; a test case without."""
    shape = (12, 12, 12)[:ndim]
    label_map = np.zeros(shape, np.uint8)
    label_map[(slice(1, 4),) * ndim] = 1
    label_map[(slice(4, 8),) * ndim] = 1
    label_map[(slice(8, 11),) * ndim] = 2
    geometry = Geometry.plain(shape, (1.0,) * ndim)
    suffix = ".nii.gz" if ndim == 3 else ".png"
    for part, case, labels in (("Tr", "a", label_map), ("Tr", "b", label_map), ("Ts", "c", label_map * 0)):
        image = Image(np.arange(labels.size, dtype=np.uint8).reshape(1, *shape), geometry)
        write_image(tmp_path / f"images{part}" / f"{case}_0000{suffix}", image)
        write_label_map(tmp_path / f"labels{part}" / f"{case}{suffix}", labels, geometry)
    head = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "lesion": 1, "cyst": 2}, "numTraining": 2}
    (tmp_path / "dataset.json").write_text(json.dumps({**head, "file_ending": suffix}))
    return tmp_path


def labels_of(dataset, case="a"):
    return sorted(read_case(dataset[case], dataset).instances.labels.tolist())


def test_components_of_each_class_become_objects(semantic, ndim):
    dataset = open_dataset(semantic)
    assert (dataset.format, dataset.classes, dataset.channels) == ("nnunet", ("lesion", "cyst"), ("CT",))
    assert [case.id for case in dataset.test] == ["c"]
    loaded = read_case(dataset["a"], dataset)
    assert loaded.instances.boxes.tolist() == [[[1] * ndim, [8] * ndim], [[8] * ndim, [11] * ndim]]
    assert loaded.instances.labels.tolist() == [0, 1]
    assert loaded.instances.has_mask.all()
    assert sorted(np.unique(loaded.label_map).tolist()) == [0, 1, 2]


def test_connectivity_and_least_size_are_options(semantic, ndim):
    assert labels_of(open_dataset(semantic, options=["connectivity=face"])) == [0, 0, 1]
    least = 3**ndim + 1
    assert labels_of(open_dataset(semantic, options=["connectivity=face", f"min_size={least}"])) == [0]
    with pytest.raises(ValueError, match=r"conectivity.*did you mean 'connectivity'"):
        open_dataset(semantic, options=["conectivity=face"])


def test_all_classes_may_be_one_whose_parts_are_one_object_where_they_touch(semantic, ndim):
    dataset = open_dataset(semantic, options=["one_class=organ"])
    assert dataset.classes == ("organ",)
    instances = read_case(dataset["a"], dataset).instances  # all three touch at corners
    assert instances.labels.tolist() == [0]
    assert instances.boxes.tolist() == [[[1] * ndim, [11] * ndim]]
    apart = open_dataset(semantic, options=["one_class=organ", "connectivity=face"])
    assert labels_of(apart) == [0, 0, 0]


def test_the_decathlons_names_are_read(semantic):
    for path in (semantic / "imagesTr").iterdir():
        path.rename(path.with_name(path.name.replace("_0000", "")))
    head = {"name": "Task09", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "lesion", "2": "cyst"}}
    (semantic / "dataset.json").write_text(json.dumps({**head, "training": [], "test": []}))
    dataset = open_dataset(semantic)
    assert (dataset.name, dataset.classes, labels_of(dataset)) == ("Task09", ("lesion", "cyst"), [0, 1])


def test_without_a_head_the_classes_are_found_or_named(semantic):
    (semantic / "dataset.json").unlink()
    assert open_dataset(semantic).classes == ("class 1", "class 2")
    assert "the label maps show the classes 1, 2" in str(check(semantic)[-1])
    assert open_dataset(semantic, options=["classes=lesion,cyst"]).classes == ("lesion", "cyst")


def test_a_case_without_label_map_is_an_error(semantic):
    next((semantic / "labelsTr").glob("a*")).unlink()
    assert [finding.case for finding in check(semantic) if finding.severity == "error"] == ["a"]


def test_folds_of_nnunet_are_accepted(semantic):
    (semantic / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}]))
    assert open_dataset(semantic).splits == ({"train": ("a",), "val": ("b",), "test": ()},)


@pytest.mark.parametrize("place", ["", "preprocessed"])
def test_folds_of_nndetection_are_accepted(semantic, place):
    """As nnDetection writes them: a pickled list of ordered dictionaries of arrays of case names."""
    folds = [OrderedDict(train=np.array(["a"]), val=np.array(["b"])), OrderedDict(train=np.array(["b"]), val=["a"])]
    (semantic / place).mkdir(exist_ok=True)
    (semantic / place / "splits_final.pkl").write_bytes(pickle.dumps(folds))
    expected = ({"train": ("a",), "val": ("b",), "test": ()}, {"train": ("b",), "val": ("a",), "test": ()})
    assert open_dataset(semantic).splits == expected
    (semantic / "own.pkl").write_bytes(pickle.dumps(folds[:1]))
    assert open_dataset(semantic, options=[f"splits={semantic / 'own.pkl'}"]).splits == expected[:1]


class Payload:
    def __reduce__(self):
        return os.system, ("touch OPENED",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps([Payload()]), "only numpy arrays are admitted"),
        (pickle.dumps([{"train": [Payload()], "val": []}]), "only numpy arrays are admitted"),
        (b"", "not a pickle"),
        (pickle.dumps({"train": ["a"]}), "not a list of folds"),
        (pickle.dumps([{"train": 3}]), "not a list of folds"),
        (pickle.dumps([3]), "not a list of folds"),
    ],
    ids=["code", "code inside", "empty", "no list", "no ids", "numbers"],
)
def test_a_pickle_of_anything_but_folds_is_refused_unrun(semantic, content, message, monkeypatch):
    monkeypatch.chdir(semantic)
    (semantic / "splits_final.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=rf"splits_final\.pkl.*{message}"):
        open_dataset(semantic)
    (finding,) = check(semantic)
    assert (finding.severity, finding.file.name) == ("error", "splits_final.pkl")
    assert not (semantic / "OPENED").exists()


def test_a_pattern_keeps_patients_together(semantic):
    with pytest.raises(ValueError, match="does not match case 'c'"):
        open_dataset(semantic, options=["group=[ab]"])
    assert {case.group for case in open_dataset(semantic, options=["group=^."]).cases} == {"a", "b", "c"}


def test_what_a_reader_found_is_prepared_once_and_again_when_it_changes(semantic, ndim, tmp_path):
    (semantic / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}]))
    work = tmp_path / "work"

    def prepared(*options):
        return prepare(open_dataset(semantic, options=options), work, workers=0)

    store = prepared()
    assert store.meta("a").instances.labels.tolist() == [0, 1]
    assert store.read("a")[1].max() == 2
    assert prepared().notes[0] == "0 of 3 cases prepared, 3 were ready"
    assert len(prepared("connectivity=face").meta("a").instances) == 3
    label_map = next((semantic / "labelsTr").glob("a*"))
    label_map.write_bytes(next((semantic / "labelsTs").glob("c*")).read_bytes())  # no object any more
    store = prepared("connectivity=face")
    assert store.notes[0] == "1 of 3 cases prepared, 2 were ready"
    assert len(store.meta("a").instances) == 0


@pytest.mark.data
def test_hippocampus_opens_as_it_is(data):
    found = examine(data / "hippocampus", options=["classes=anterior,posterior"])
    assert not [finding for finding in found.findings if finding.severity == "error"]
    assert len(found.dataset.cases) == 100
    assert found.objects["posterior"] >= 100  # each of the 100 volumes has one of both; strays may add some
    assert found.objects["anterior"] >= 100


@pytest.mark.parametrize("labels", [{"background": "0", "lesion": "1", "cyst": "2.0"}, {"lesion": [1], "cyst": 2.0}])
def test_values_of_classes_may_be_written_as_texts_or_lists(semantic, labels):
    (semantic / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}, "labels": labels}))
    assert open_dataset(semantic).classes == ("lesion", "cyst")
    assert labels_of(open_dataset(semantic)) == [0, 1]


def test_regions_of_several_values_are_refused(semantic):
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    (semantic / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}, "labels": labels}))
    with pytest.raises(ValueError, match=r"regions.*write one value for each class"):
        open_dataset(semantic)


@pytest.mark.parametrize("ndim", [3])
def test_channels_on_a_fourth_axis_are_read(semantic, ndim):
    sitk = pytest.importorskip("SimpleITK")
    head = {"modality": {"0": "T2", "1": "ADC"}, "labels": {"0": "background", "1": "lesion", "2": "cyst"}}
    (semantic / "dataset.json").write_text(json.dumps(head))
    voxels = np.random.default_rng(0).integers(0, 99, (2, 12, 12, 12)).astype(np.int16)
    for case in ("Tr/a", "Tr/b", "Ts/c"):
        old = semantic / f"images{case}_0000.nii.gz"
        sitk.WriteImage(sitk.GetImageFromArray(voxels, isVector=False), str(old.with_name(f"{case[-1]}.nii.gz")))
        old.unlink()
    dataset = open_dataset(semantic)
    assert dataset.channels == ("T2", "ADC")
    np.testing.assert_array_equal(read_case(dataset["a"], dataset).image.array, voxels)
    assert labels_of(dataset) == [0, 1]


def test_the_file_ending_decides_and_two_files_of_one_name_are_an_error_without_it(semantic, ndim):
    other = ".nrrd" if ndim == 3 else ".tif"
    image = Image(np.zeros((1, *(12, 12, 12)[:ndim]), np.uint8), Geometry.plain((12, 12, 12)[:ndim]))
    write_image(semantic / "imagesTr" / f"a_0000{other}", image)
    assert not open_dataset(semantic)["a"].channels[0].name.endswith(other)
    head = json.loads((semantic / "dataset.json").read_text())
    del head["file_ending"]
    (semantic / "dataset.json").write_text(json.dumps(head))
    with pytest.raises(ValueError, match=r"a_0000\S* has the same name; keep the right one"):
        open_dataset(semantic)


def test_values_without_a_class_are_an_error_unless_they_are_to_be_ignored(semantic, ndim):
    head = json.loads((semantic / "dataset.json").read_text())
    head["labels"].pop("cyst")
    (semantic / "dataset.json").write_text(json.dumps(head))
    dataset = open_dataset(semantic)
    with pytest.raises(ValueError, match="values 2 have no class; known: 1"):
        read_case(dataset["a"], dataset)
    (semantic / "dataset.json").write_text(json.dumps({**head, "labels": {**head["labels"], "ignore": 2}}))
    assert labels_of(open_dataset(semantic)) == [0]


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(
    ("numbers", "missing"), [((0, 1), ""), ((0, 2), "channel 1"), ((0,), "channel 1"), ((1, 2), "channel 0")]
)
def test_a_missing_channel_is_an_error_that_names_it(semantic, declared, numbers, missing):
    for case, own in (("a", (0, 1)), ("b", numbers)):
        (first,) = (semantic / "imagesTr").glob(f"{case}_0000.*")
        content, suffix = first.read_bytes(), first.name.removeprefix(f"{case}_0000")
        first.unlink()
        for number in own:
            first.with_name(f"{case}_{number:04d}{suffix}").write_bytes(content)
    (test,) = (semantic / "imagesTs").iterdir()
    test.with_name(test.name.replace("_0000", "_0001")).write_bytes(test.read_bytes())
    head = json.loads((semantic / "dataset.json").read_text())
    head["channel_names"] = {"0": "T1", "1": "T2"} if declared else {}
    (semantic / "dataset.json").write_text(json.dumps(head))
    errors = [finding for finding in check(semantic, workers=0) if finding.severity == "error"]
    assert [error.case for error in errors] == ["b"] * bool(missing)
    assert not missing or errors[0].problem.startswith(f"{missing} of this case is missing: it has b_000")


def test_a_case_that_no_part_of_a_fold_names_and_another_number_of_cases_are_warnings(semantic):
    for path in (*(semantic / "imagesTr").glob("b_*"), *(semantic / "labelsTr").glob("b.*")):
        path.with_name("d" + path.name[1:]).write_bytes(path.read_bytes())
    folds = [{"train": ["a"], "val": ["b"]}, {"train": ["d", "b"], "val": ["a"]}, {"train": ["b"], "val": ["a"]}]
    (semantic / "splits_final.json").write_text(json.dumps(folds))
    warnings = [finding.problem for finding in check(semantic, workers=0) if finding.severity == "warning"]
    assert "folds 0, 2 leave out 1 training case: d" in warnings
    assert '"numTraining" is 2, but labelsTr has 3 label maps' in warnings


@pytest.mark.parametrize(("part", "warned"), [("Val", True), ("Test", True), ("Ts_old", False), ("_backup", False)])
def test_folders_of_other_parts_are_not_dropped_silently(semantic, ndim, part, warned):
    for kind in ("images", "labels"):
        (semantic / f"{kind}Ts").rename(semantic / f"{kind}{part}")
    problems = []
    dataset = open_dataset(semantic, problems.append)
    assert [case.id for case in dataset.cases] == ["a", "b"]
    texts = [str(one) for one in problems if one.severity == "warning"]
    expected = f"images{part} and labels{part} (1 label map) are not used"
    assert [expected in text and "splits_final.json" in text for text in texts] == [True] * warned

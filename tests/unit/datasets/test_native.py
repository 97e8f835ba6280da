"""The native layout, as nnDetection's users know it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from boxel.datasets.cases import Case, Dataset, read_case
from boxel.datasets.formats import open_dataset, register_format
from boxel.io import read_image, read_label_map, write_image
from boxel.types import Geometry, Image


def edit(path, **changes):
    """Replace keys of a JSON file; None takes them out."""
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def move(path, new_path):
    """Save an image in another format."""
    image = read_image(path)
    path.unlink()
    write_image(new_path, Image(image.array, Geometry.plain(image.geometry.shape)))


def test_what_was_written_is_read(native, ndim):
    dataset = open_dataset(native)
    assert (dataset.name, dataset.ndim, dataset.classes) == ("small", ndim, ("benign", "malignant"))
    assert dataset.channels == ("CT",)
    assert [case.id for case in dataset.train] == ["a", "b", "c"]
    assert [case.id for case in dataset.test] == ["d"]
    assert [dict(case.mask_labels) for case in dataset.cases] == [{1: 0, 2: 1}, {1: 1, 2: 0}, {}, {1: 0}]
    assert dataset.splits is None


def test_the_folders_may_lie_under_raw_splitted(native):
    for folder in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (native / "raw_splitted").mkdir(exist_ok=True)
        (native / folder).rename(native / "raw_splitted" / folder)
    assert len(open_dataset(native).cases) == 4


def test_formats_and_further_keys_may_be_mixed(native):
    move(native / "labelsTr" / "a.nii.gz", native / "labelsTr" / "a.tif")
    move(native / "imagesTr" / "b_0000.nii.gz", native / "imagesTr" / "b_0000.mha")
    move(native / "labelsTr" / "b.nii.gz", native / "labelsTr" / "b.nrrd")
    edit(native / "labelsTr" / "a.json", radiologist="somebody", scores=[1, 2])
    dataset = open_dataset(native)
    assert [len(read_case(case, dataset).instances) for case in dataset.cases] == [2, 2, 0, 1]


def test_channels_are_stacked_in_the_order_of_their_numbers(native):
    for path in (native / "imagesTr").glob("*_0000.nii.gz"):
        image = read_image(path)
        write_image(path.with_name(path.name.replace("_0000", "_0001")), Image(image.array + 100, image.geometry))
    shutil.rmtree(native / "imagesTs")
    shutil.rmtree(native / "labelsTs")
    edit(native / "dataset.json", modalities={"0": "CT", "1": "PET"})
    dataset = open_dataset(native)
    array = read_case(dataset["a"], dataset).image.array
    assert dataset.channels == ("CT", "PET")
    np.testing.assert_allclose(array[1], array[0] + 100, rtol=1e-5)


def test_a_colour_picture_has_its_channels_in_one_file(tmp_path, rng):
    colours = rng.integers(0, 255, (3, 8, 9), dtype=np.uint8)
    write_image(tmp_path / "imagesTr" / "a_0000.png", Image(colours, Geometry.plain((8, 9))))
    (tmp_path / "labelsTr").mkdir()
    (tmp_path / "labelsTr" / "a.json").write_text('{"instances": {}}')
    modalities = {"0": "red", "1": "green", "2": "blue"}
    head = {"name": "x", "dim": 2, "labels": {"0": "cell"}, "modalities": modalities}
    (tmp_path / "dataset.json").write_text(json.dumps(head))
    dataset = open_dataset(tmp_path)
    np.testing.assert_array_equal(read_case(dataset["a"], dataset).image.array, colours)


def test_a_case_may_have_boxes_only(native, ndim):
    (native / "labelsTr" / "a.nii.gz").unlink()
    boxes = [
        {"label": 1, "lower": [1] * ndim, "upper": [4.5] * ndim},
        {"id": 8, "label": 0, "lower": [2] * ndim, "upper": [3] * ndim},
    ]
    (native / "labelsTr" / "a.json").write_text(json.dumps({"boxes": boxes}))
    dataset = open_dataset(native)
    instances = read_case(dataset["a"], dataset).instances
    assert instances.boxes.tolist() == [[[1] * ndim, [4.5] * ndim], [[2] * ndim, [3] * ndim]]
    assert instances.labels.tolist() == [1, 0]
    assert instances.ids.tolist() == [1, 8]


def test_groups_keep_cases_together(native):
    edit(native / "dataset.json", groups={"a": "patient 1", "b": "patient 1"})
    assert [case.group for case in open_dataset(native).train] == ["patient 1", "patient 1", ""]


def test_test_images_without_labels_are_left_to_predict(native):
    shutil.rmtree(native / "labelsTs")
    assert open_dataset(native).test == ()


def test_prescribed_folds_are_read_and_must_name_cases_once(native):
    fold = {"train": ["a"], "val": ["b", "c"], "test": ["d"]}
    (native / "splits.json").write_text(json.dumps([fold]))
    assert open_dataset(native).splits == ({"train": ("a",), "val": ("b", "c"), "test": ("d",)},)
    for wrong in ({**fold, "val": ["b", "a"]}, {**fold, "val": ["e"]}):
        (native / "splits.json").write_text(json.dumps([wrong]))
        with pytest.raises(ValueError, match=r"splits\.json: fold 0 names"):
            open_dataset(native)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"0": "background", "1": "tumour"}}, "nnU-Net.*--format nnunet"),
        ({"channel_names": {"0": "CT"}, "modalities": None}, "nnU-Net.*--format nnunet"),
        ({"labels": {"1": "tumour"}}, "number the names from 0"),
        ({"labels": None}, "number the names from 0"),
        ({"modalities": None}, '"modalities".*number the names from 0'),
        ({"dim": "3D"}, '"dim": 2 or "dim": 3'),
        ({"groups": ["a"]}, "patient"),
    ],
)
def test_an_unusable_description_is_explained(native, changes, message):
    edit(native / "dataset.json", **changes)
    with pytest.raises(ValueError, match=rf"dataset\.json: .*{message}"):
        open_dataset(native, format="native")


def test_the_head_may_be_yaml_and_session_ids_name_the_patient(native):
    head = json.loads((native / "dataset.json").read_text())
    (native / "dataset.json").unlink()
    lines = ["task: Task100_Small", f"dim: {head['dim']}", "session_id: true", 'labels: {"0": benign, "1": malignant}']
    (native / "dataset.yaml").write_text("\n".join([*lines, 'modalities: {"0": CT}', "target_class: 0"]))
    for path in [*native.glob("imagesT*/*"), *native.glob("labelsT*/*")]:
        path.rename(path.with_name(path.name.replace("_0000", "").replace(".", "_000.", 1).replace(
            ".nii.gz", "_0000.nii.gz" if "images" in path.parent.name else ".nii.gz")))  # fmt: skip
    dataset = open_dataset(native)
    assert (dataset.name, dataset.classes) == ("Task100_Small", ("benign", "malignant"))
    assert {case.id: case.group for case in dataset.train} == {"a_000": "a", "b_000": "b", "c_000": "c"}


def test_another_folder_is_refused_with_the_known_layouts(tmp_path):
    with pytest.raises(ValueError, match="not a data set in a layout that Boxel knows"):
        open_dataset(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        open_dataset(tmp_path / "nowhere")


def test_a_reader_of_another_layout_can_be_plugged_in(tmp_path):
    case = Case("a", (tmp_path / "a.nii.gz",))
    dataset = Dataset(tmp_path, "mine", 3, ("x",), ("CT",), (case,))
    (tmp_path / "cases.csv").touch()
    register_format("csv", lambda path: (path / "cases.csv").exists(), lambda path, report: dataset)
    assert open_dataset(tmp_path) == replace(dataset, format="csv")
    with pytest.raises(ValueError, match="'csv' is registered already"):
        register_format("csv", lambda path: True, lambda path, report: dataset)


def test_label_maps_are_written_compressed_and_small(native):
    label_map = native / "labelsTr" / "a.nii.gz"
    assert read_label_map(label_map).array.max() == 2
    assert label_map.stat().st_size < 500

"""Images and label maps of like names; grids that are turned against each other."""

from dataclasses import replace

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import examine
from boxel.io import read_image, reorient, write_image, write_label_map
from boxel.types import Geometry, Image

SHAPE = (6, 8, 10)
GRID = Geometry(SHAPE, (3.0, 2.0, 1.0), (5.0, 6.0, 7.0), ((0, 0, 1), (0, 1, 0), (1, 0, 0)))


def label_map(shape=SHAPE):
    array = np.zeros(shape, np.uint8)
    array[1:3, 2:5, 3:7], array[4, 6, 8] = 2, 5
    return array


def turned(array, geometry, order, flips):
    """The same voxels of the world, stored with permuted and flipped axes; independent of `reorient`."""
    d = np.asarray(geometry.direction)
    first = [n - 1 if flip else 0 for n, flip in zip(geometry.shape, flips, strict=True)]
    origin = geometry.to_world(np.array([first]) + 0.5)[0]
    signed = d * np.where(flips, -1, 1)
    for axis, flip in enumerate(flips):
        array = np.flip(array, axis) if flip else array
    spacing = tuple(geometry.spacing[axis] for axis in order)
    direction = tuple(map(tuple, signed[:, list(order)].tolist()))
    array = np.ascontiguousarray(array.transpose(order))
    return array, Geometry(array.shape, spacing, tuple(origin.tolist()), direction)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("flips", [(False, True, True), (True, False, False), (False, False, False)])
def test_a_turned_label_map_is_laid_on_its_image(tmp_path, rng, order, flips):
    write_image(tmp_path / "images" / "a.nii.gz", Image(rng.normal(size=(1, *SHAPE)).astype(np.float32), GRID))
    array, geometry = turned(label_map(), GRID, order, flips)
    write_label_map(tmp_path / "labels" / "a.nii.gz", array, geometry)
    dataset = open_dataset(tmp_path, options=["classes=lesion"])
    loaded = read_case(dataset["a"], dataset)
    np.testing.assert_array_equal(loaded.label_map, label_map())
    assert loaded.instances.ids.tolist() == [2, 5]
    assert loaded.instances.boxes.tolist() == [[[1, 2, 3], [3, 5, 7]], [[4, 6, 8], [5, 7, 9]]]


def test_an_oblique_grid_is_left_as_it_is():
    c, s = np.cos(0.3), np.sin(0.3)
    oblique = Geometry(SHAPE, GRID.spacing, GRID.origin, ((0, -s, c), (0, c, s), (1, 0, 0)))
    image = Image(label_map(), oblique)
    assert reorient(image, GRID) is image


def test_another_grid_is_an_error(tmp_path, rng):
    write_image(tmp_path / "images" / "a.nii.gz", Image(rng.normal(size=(1, *SHAPE)).astype(np.float32), GRID))
    moved = Geometry(SHAPE, GRID.spacing, (0.0, 0.0, 0.0), GRID.direction)
    write_label_map(tmp_path / "labels" / "a.nii.gz", label_map(), moved)
    (error,) = [finding for finding in examine(tmp_path).findings if finding.severity == "error"]
    assert "origin" in error.problem


def test_a_label_map_that_lost_its_header_is_an_error_that_says_so(tmp_path, rng):
    write_image(tmp_path / "images" / "a.nii.gz", Image(rng.normal(size=(1, *SHAPE)).astype(np.float32), GRID))
    write_label_map(tmp_path / "labels" / "a.nii.gz", label_map(), Geometry.plain(SHAPE))
    (error,) = [finding for finding in examine(tmp_path).findings if finding.severity == "error"]
    assert error.problem == "spacing (1.0, 1.0, 1.0) but the image has (3.0, 2.0, 1.0)"
    assert "header may be lost" in error.suggested_fix


def test_a_table_gives_patients_and_classes(tmp_path, rng):
    for name in "abc":
        write_image(tmp_path / "image" / f"{name}.nii.gz", Image(rng.normal(size=(1, *SHAPE)).astype(np.float32), GRID))
        write_label_map(tmp_path / "nodule_mask" / f"{name}.nii.gz", label_map(), GRID)
    table = "file,patient_id,diagnosis\na.nii.gz,p1,0\nb.nii.gz,p1,1\nc.nii.gz,p2,1\n"
    (tmp_path / "meta.csv").write_text(table)
    dataset = open_dataset(tmp_path, options=["class_column=diagnosis", "classes=benign,malignant"])
    assert [case.group for case in dataset.cases] == ["p1", "p1", "p2"]
    labels = [read_case(case, dataset).instances.labels.tolist() for case in dataset.cases]
    assert labels == [[0, 0], [1, 1], [1, 1]]
    with pytest.raises(ValueError, match=r"meta\.csv: there is no column grade"):
        open_dataset(tmp_path, options=["class_column=grade"])
    (tmp_path / "meta.csv").write_text(table.replace("c.nii.gz,p2,1\n", ""))
    with pytest.raises(ValueError, match=r"meta\.csv: no row for c"):
        open_dataset(tmp_path, options=["class_column=diagnosis"])


def rated(tmp_path, *ratings):
    """A case per rating, in the column `rating` of its table."""
    for name in "abcd"[: len(ratings)]:
        write_image(tmp_path / "images" / f"{name}.nii.gz", Image(np.zeros((1, *SHAPE), np.float32), GRID))
        write_label_map(tmp_path / "labels" / f"{name}.nii.gz", label_map(), GRID)
    rows = "".join(f"{name}.nii.gz,{rating}\n" for name, rating in zip("abcd", ratings, strict=False))
    (tmp_path / "meta.csv").write_text("file,rating\n" + rows)
    return tmp_path


def test_numbers_from_a_bound_upwards_are_the_second_class(tmp_path):
    folder, options = rated(tmp_path, "2.9", "10", "3", "-1"), ["class_column=rating", "class_from=3"]
    dataset = open_dataset(folder, options=options)
    assert dataset.classes == ("rating<3", "rating>=3")
    labels = [read_case(case, dataset).instances.labels.tolist() for case in dataset.cases]
    assert labels == [[0, 0], [1, 1], [1, 1], [0, 0]]
    assert open_dataset(folder, options=[*options, "classes=low,high"]).classes == ("low", "high")
    with pytest.raises(ValueError, match=r"makes 2 classes but classes names 3"):
        open_dataset(folder, options=[*options, "classes=low,middle,high"])
    with pytest.raises(ValueError, match=r"class_from=3 has no column; add --option class_column"):
        open_dataset(folder, options=["class_from=3"])


@pytest.mark.parametrize("value", ["high", "", "nan", '"3,5"'])
def test_a_class_by_number_needs_numbers(tmp_path, value):
    with pytest.raises(ValueError, match=r"meta\.csv: rating of row b is '.*'; write"):
        open_dataset(rated(tmp_path, "2", value), options=["class_column=rating", "class_from=3"])


def test_names_in_one_folder_and_folders_per_case(tmp_path):
    picture = Image(np.arange(80, dtype=np.uint8).reshape(1, 8, 10), Geometry.plain((8, 10)))
    for name in ("one_raw.tif", "one_instances.tif", "img2.tif", "mask2.tif", "other.tif"):
        write_image(tmp_path / "flat" / name, picture)
    for case in ("p1", "p2"):
        write_image(tmp_path / "folders" / case / "ct.png", picture)
        labels = np.where(np.isin(picture.array, (1, 79)), picture.array, 0)
        write_image(tmp_path / "folders" / case / "seg.png", replace(picture, array=labels))
    assert [case.id for case in open_dataset(tmp_path / "flat").cases] == ["2", "one"]
    (tmp_path / "folders" / "class_names.json").write_text('{"1": "liver", "79": "spleen"}')
    dataset = open_dataset(tmp_path / "folders")
    assert [case.id for case in dataset.cases] == ["p1", "p2"]
    assert dataset.classes == ("liver", "spleen")
    assert len(read_case(dataset["p1"], dataset).instances) == 2


@pytest.mark.data
def test_lidc_nodules_open_as_they_are(data):
    found = examine(data / "lidc_nodules", options=["class_column=Diagnosis_value", "modality=CT", "values=instances"])
    assert list(found.objects.values()) == [522, 274]  # benign and malignant, as the README says
    assert len({case.group for case in found.dataset.cases}) == 441
    assert not [finding for finding in found.findings if finding.severity == "error"]


@pytest.mark.data
def test_lidc_nodules_have_the_classes_of_the_papers_rule(data):
    options = ["class_column=Malignancy_value", "class_from=3", "modality=CT", "values=instances"]
    found = examine(data / "lidc_nodules", options=options)
    assert found.objects == {"Malignancy_value<3": 302, "Malignancy_value>=3": 494}


@pytest.mark.data
def test_nuclei3d_open_by_rank(data):
    assert sum(examine(data / "nuclei3d").objects.values()) == 8 + 16 + 51
    assert sum(examine(data / "nuclei3d", options=["ndim=2"]).objects.values()) == 125


@pytest.mark.data
def test_ct_opens_from_nifti_and_dicom(data, tmp_path):
    found = examine(data / "ct")
    assert not [finding for finding in found.findings if finding.severity == "error"]
    assert len(found.dataset.cases) == 3
    case = found.dataset["ct_dicom_512"]
    image = read_image(case.channels[0])
    # The label map is stored with its rows turned around; the body lies where the labels are.
    loaded = read_case(case, found.dataset)
    assert loaded.image.array[0][loaded.label_map > 0].mean() > loaded.image.array[0][loaded.label_map == 0].mean()
    assert image.geometry.spacing[0] == pytest.approx(2.0)  # SliceThickness says 3


def brain(root, case, names, lesions=2, value=1):
    """Files of one case: images of noise, and a label map with separate lesions."""
    rng = np.random.default_rng(len(case))
    label_map = np.zeros((8, 12, 14), np.uint8)
    for number in range(lesions):
        label_map[2:4, 2 + 5 * number : 5 + 5 * number, 3:6] = value
    for name in names:
        array = (
            label_map if any(word in name for word in ("lesion", "mask", "seg")) else rng.normal(size=label_map.shape)
        )
        write_image(root / case / name, Image(array[None].astype(np.float32), Geometry.plain(label_map.shape)))


@pytest.mark.parametrize("value", [1, 255])
def test_label_maps_of_one_value_show_a_lesion_per_component(tmp_path, value):
    for case in ("p1", "p2"):
        brain(tmp_path, case, ("FLAIR.nii.gz", "lesions.nii.gz"), value=value)
    reports = []
    dataset = open_dataset(tmp_path, reports.append)
    assert [len(read_case(case, dataset).instances) for case in dataset.cases] == [2, 2]
    assert ["each connected component is an object" in report.problem for report in reports] == [True]
    dataset = open_dataset(tmp_path, options=["values=instances"])
    assert [len(read_case(case, dataset).instances) for case in dataset.cases] == [1, 1]


def test_maps_of_instances_stay_so_even_where_one_has_a_single_object(tmp_path):
    brain(tmp_path, "p1", ("ct.nii.gz", "seg.nii.gz"))
    brain(tmp_path, "p2", ("ct.nii.gz", "seg.nii.gz"), value=2)
    dataset = open_dataset(tmp_path)
    assert [len(read_case(case, dataset).instances) for case in dataset.cases] == [1, 1]


def masks_with(root, *values):
    """A label map for each set of values, each value in two separate parts."""
    for case, own in enumerate(values):
        array = np.zeros((20, 4 * max(own) + 4), np.uint8)
        for value in own:
            array[2:5, 4 * value : 4 * value + 3] = array[12:15, 4 * value : 4 * value + 3] = value
        for folder in ("images", "masks"):
            write_image(root / folder / f"c{case}.png", Image(array[None], Geometry.plain(array.shape)))
    return root


@pytest.mark.parametrize(
    ("values", "warns"),
    [
        (([1, 2], [1], [1, 2]), True),
        ((range(1, 14), range(1, 14), range(2, 14)), True),
        (([1], [2]), True),
        (([1], [1]), False),
        (([1, 2],), False),
        ((range(1, 14), range(1, 9)), False),
    ],
)
def test_label_maps_that_share_values_may_show_classes_which_is_said(tmp_path, values, warns):
    root, reports = masks_with(tmp_path, *values), []
    dataset = open_dataset(root, reports.append)
    warnings = [report for report in reports if report.severity == "warning"]
    assert ["label maps share the values 1, 2" in w.problem for w in warnings] == [True] * warns
    assert all("--option classes=FIRST,SECOND" in w.suggested_fix for w in warnings)
    if warns:
        assert [len(read_case(case, dataset).instances) for case in dataset.cases] == [len(own) for own in values]
        assert open_dataset(root, lambda problem: pytest.fail(str(problem)), options=["values=instances"])


def test_names_of_several_classes_are_those_of_the_values(tmp_path):
    root = masks_with(tmp_path, [1, 2], [2])
    dataset = open_dataset(root, lambda problem: pytest.fail(str(problem)), options=["classes=liver,tumor"])
    labels = [read_case(case, dataset).instances.labels.tolist() for case in dataset.cases]
    assert [sorted(own) for own in labels] == [[0, 0, 1, 1], [1, 1]]
    with pytest.raises(ValueError, match="values=instances with 2 classes leaves open which object is of which class"):
        open_dataset(root, options=["classes=liver,tumor", "values=instances"])


def test_the_folder_of_a_case_is_no_image_without_label_map(tmp_path):
    for case in ("ct_1", "ct_2"):
        brain(tmp_path, case, ("ct.nii.gz", "seg.nii.gz"), value=2)
    reports = []
    assert len(open_dataset(tmp_path, reports.append).cases) == 2
    assert {report.severity for report in reports} <= {"note"}


def test_one_of_several_images_of_a_case_is_chosen(tmp_path):
    brain(tmp_path, "p1", ("FLAIR.nii.gz", "T1.nii.gz", "lesions.nii.gz"))
    with pytest.raises(ValueError, match=r"several images: T1.nii.gz, FLAIR.nii.gz; .*--option image=NAME"):
        open_dataset(tmp_path)
    dataset = open_dataset(tmp_path, options=["image=T1"])
    assert dataset["p1"].channels == (tmp_path / "p1" / "T1.nii.gz",)


def test_images_and_label_maps_lie_in_the_same_folders(tmp_path, rng):
    for place in ("p1/001", "p2/001", "p2/002"):
        picture = Image(rng.integers(2, 9, (1, 12, 12)).astype(np.uint8), Geometry.plain((12, 12)))
        write_image(tmp_path / "images" / f"{place}.png", picture)
        write_image(tmp_path / "masks" / f"{place}.png", picture)
    dataset = open_dataset(tmp_path)
    assert {case.id: case.file.parent.name for case in dataset.cases} == {"p1_001": "p1", "p2_001": "p2", "002": "p2"}
    (tmp_path / "images" / "p2" / "002.png").unlink()
    with pytest.raises(ValueError, match=r"002.png: the label map has no image"):
        open_dataset(tmp_path)

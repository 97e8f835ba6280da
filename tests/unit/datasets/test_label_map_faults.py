"""Label maps and their tables: every object and every case is used as meant, or an error says why not."""

import numpy as np
import pytest
from PIL import Image as Picture

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import examine
from boxel.datasets.quality.repair import repair
from boxel.io import read_label_map, write_image, write_label_map
from boxel.types import Geometry, Image

BOXES = ((5, 8, 13, 20), (25, 40, 31, 48))  # rows and columns, half-open; 96 and 48 pixels


def write(root, name, *boxes, value=1, folders=("images", "masks")):
    """A dark picture that is bright in the boxes, and its mask; a value per box or one of all."""
    image, mask = np.random.default_rng(len(name) + ord(name[0])).integers(0, 50, (40, 60)).astype(np.uint8), None
    mask = np.zeros_like(image)
    for number, (a, b, c, d) in enumerate(boxes):
        image[a:c, b:d] = 220
        mask[a:c, b:d] = value[number] if isinstance(value, tuple) else value
    for folder, array in zip(folders, (image, mask), strict=True):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Picture.fromarray(array).save(root / folder / f"{name}.png")


def boxes_of(dataset, name):
    boxes = read_case(dataset[name], dataset).instances.boxes
    return sorted(tuple(int(number) for number in box.ravel()) for box in boxes)


@pytest.mark.parametrize("value", [1, 2, 128, 255])
def test_masks_of_any_one_value_show_components(tmp_path, value):
    for name in "ab":
        write(tmp_path, name, *BOXES, value=value)
    write(tmp_path, "c")
    dataset = open_dataset(tmp_path)
    assert [boxes_of(dataset, name) for name in "abc"] == [list(BOXES), list(BOXES), []]


def test_a_repair_removes_stray_pixels_but_no_part_that_may_be_an_object(tmp_path):
    write(tmp_path / "data", "a", *BOXES, (38, 2, 39, 4))
    write(tmp_path / "data", "b", *BOXES, value=(1, 2))  # numbers: the mask of a is one object
    result = examine(tmp_path / "data")
    assert any("in several parts" in finding.problem for finding in result.findings)
    repair(result.dataset, result.findings, tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert boxes_of(dataset, "a") == [(5, 8, 31, 48)]
    assert np.count_nonzero(read_case(dataset["a"], dataset).label_map) == 96 + 48
    assert boxes_of(dataset, "b") == list(BOXES)


def with_table(root, text):
    for name in "abc":
        write(root, name, BOXES[0])
    (root / "meta.csv").write_text(text)
    return root


@pytest.mark.parametrize("column", ["image", "filename", "image_id", "File", "ID"])
def test_the_table_may_call_the_image_by_any_usual_name(tmp_path, column):
    root = with_table(tmp_path, f"{column},Patient ID,kind,Split\na.png,1,x,train\nb.png,1.0,y,test\nc.png,2,x,train\n")
    dataset = open_dataset(root, options=["class_column=kind"])
    assert [(case.group, case.split) for case in dataset.cases] == [("1", "train"), ("1", "test"), ("2", "train")]
    assert dataset.classes == ("kind x", "kind y")


@pytest.mark.parametrize(("options", "severity"), [([], "warning"), (["class_column=kind"], "error")])
def test_a_table_that_names_no_image_is_reported(tmp_path, options, severity):
    root = with_table(tmp_path, "picture_of,kind\na,x\nb,y\nc,x\n")
    (finding,) = [f for f in examine(root, options=options).findings if "none of its columns" in f.problem]
    assert finding.severity == severity


def test_a_table_of_which_no_column_is_used_is_reported(tmp_path):
    root = with_table(tmp_path, "id,owner,kind\na,1,x\nb,2,y\nc,3,x\n")
    for options, reported in (([], True), (["group_column=owner"], False), (["class_column=kind"], False)):
        findings = [f for f in examine(root, options=options).findings if "nothing of the table is used" in f.problem]
        assert [finding.severity for finding in findings] == ["warning"] * reported


def test_classes_that_are_numbers_are_one_however_written_and_must_not_be_empty(tmp_path):
    root = with_table(tmp_path, "id,kind\na,1\nb,1.0\nc,2\n")
    assert open_dataset(root, options=["class_column=kind"]).classes == ("kind 1", "kind 2")
    (root / "meta.csv").write_text("id,kind\na,1\nb,1.0\nc,nan\n")
    with pytest.raises(ValueError, match=r"meta\.csv: case c has no kind; write it"):
        open_dataset(root, options=["class_column=kind"])


def test_rows_of_one_case_must_agree(tmp_path):
    root = with_table(tmp_path, "id,patient_id\na,1\na.png,1.0\nb,2\nc,3\n")
    assert [case.group for case in open_dataset(root).cases] == ["1", "2", "3"]
    (root / "meta.csv").write_text("id,patient_id\na,1\na,2\nb,2\nc,3\n")
    with pytest.raises(ValueError, match=r"line 3: patient_id of case a is '2', but '1' before; keep one row"):
        open_dataset(root)


def table_of_boxes(root, *rows, head="file,x1,y1,x2,y2", name="boxes.csv"):
    for case in "abc":
        write(root, case, BOXES[0], folders=("images", "."))
        (root / f"{case}.png").unlink()
    (root / name).write_text("\n".join([head, *rows]) + "\n")
    return root


def test_an_unknown_split_is_an_error_and_a_fold_is_training(tmp_path):
    rows = "a.png,8,5,20,13,{}", "b.png,8,5,20,13,Validation", "c.png,8,5,20,13,subset3"
    for split in ("evaluation", "holdout", "tests"):
        root = table_of_boxes(tmp_path, rows[0].format(split), *rows[1:], head="file,x1,y1,x2,y2,split")
        with pytest.raises(ValueError, match=rf"unknown split '{split}' of case a; write train, .* test or testing"):
            open_dataset(root)
    root = table_of_boxes(tmp_path, rows[0].format("Test"), *rows[1:], head="file,x1,y1,x2,y2,split")
    assert [case.split for case in open_dataset(root).cases] == ["test", "train", "train"]


@pytest.mark.parametrize("of", ["img", "original", "image", "orig_", "original_image"])
def test_the_size_in_a_table_is_compared_with_the_image(tmp_path, of):
    head = f"file,{of}_width,{of}_height,x1,y1,x2,y2"
    root = table_of_boxes(tmp_path, "a.png,120,80,16,10,40,26", "b.png,60,40,8,5,20,13", "c.png,,,,,,", head=head)
    errors = [finding for finding in examine(root).findings if finding.severity == "error"]
    assert [(error.case, "80" in error.problem) for error in errors] == [("a", True)]


def test_patients_of_a_table_are_one_however_their_number_is_written(tmp_path):
    rows = "a.png,8,5,20,13,1", "b.png,8,5,20,13,1.0", "c.png,8,5,20,13,nan"
    dataset = open_dataset(table_of_boxes(tmp_path, *rows, head="file,x1,y1,x2,y2,patient_id"))
    assert [case.group for case in dataset.cases] == ["1", "1", ""]


@pytest.mark.parametrize("other", ["test", "valid"])
def test_the_tables_of_all_parts_are_read(tmp_path, other):
    root = table_of_boxes(tmp_path, "a.png,8,5,20,13", "b.png,8,5,20,13", name="train.csv")
    (root / f"{other}.csv").write_text("file,x1,y1,x2,y2\nc.png,7,5,20,13\n")
    dataset = open_dataset(root)
    assert [case.split for case in dataset.cases] == ["train", "train", "test" if other == "test" else "train"]
    assert boxes_of(dataset, "c") == [(5, 7, 13, 20)]
    assert [len(open_dataset(root, options=[f"table={name}.csv"]).cases) for name in ("train", other)] == [2, 1]
    (root / "test.csv").write_text("file,x1,y1,x2,y2\na.png,7,5,20,13\n")
    with pytest.raises(ValueError, match="case a has several values of split: test, train"):
        open_dataset(root)
    (root / "test.csv").write_text("file,x1,y1,x2,y2,label\nc.png,7,5,20,13,cell\n")
    with pytest.raises(ValueError, match=r"columns are not those of .*: label only in one; give both"):
        open_dataset(root)


def test_images_of_one_name_are_those_of_the_table_of_their_part(tmp_path):
    for part, box in zip(("train", "test"), BOXES, strict=True):
        write(tmp_path / part, "a", box, folders=(".", "gone"))
        (tmp_path / part / "gone" / "a.png").unlink()
        corners = ",".join(str(box[axis]) for axis in (1, 0, 3, 2))
        (tmp_path / f"{part}.csv").write_text(f"file,x1,y1,x2,y2\na.png,{corners}\n")
    dataset = open_dataset(tmp_path, format="table")
    assert [(case.id, case.split, boxes_of(dataset, case.id)) for case in dataset.cases] == [
        ("test_a", "test", [BOXES[1]]), ("train_a", "train", [BOXES[0]])
    ]  # fmt: skip


def test_two_folders_of_label_maps_are_an_error_until_one_is_chosen(tmp_path):
    for name in "ab":
        write(tmp_path, name, BOXES[1], folders=("images", "labels"))
        write(tmp_path, name, BOXES[0])
    (error,) = [finding for finding in examine(tmp_path).findings if finding.severity == "error"]
    assert (error.problem, error.suggested_fix) == (
        "several folders of label maps: masks, labels", "choose one with --option masks=FOLDER"
    )  # fmt: skip
    for folder, box in zip(("masks", "labels"), BOXES, strict=True):
        assert boxes_of(open_dataset(tmp_path, options=[f"masks={folder}"]), "a") == [box]


def test_a_second_folder_of_images_is_reported(tmp_path):
    for name in "ab":
        write(tmp_path, name, BOXES[0], folders=("img", "masks"))
        write(tmp_path, name, BOXES[0])
    problems = {finding.problem for finding in examine(tmp_path).findings if finding.severity == "warning"}
    assert "the images in images are used, not those in img" in problems
    chosen = examine(tmp_path, options=["images=img"])
    assert {case.channels[0].parent.name for case in chosen.dataset.cases} == {"img"}
    assert not [finding for finding in chosen.findings if "are used" in finding.problem]


def test_folders_of_parts_hold_pairs(tmp_path):
    for part, box in zip(("train", "test"), BOXES, strict=True):
        write(tmp_path / part, "a", box)
    write(tmp_path / "train", "b", BOXES[0])
    dataset = open_dataset(tmp_path)
    assert dataset.format == "pairs"
    assert {case.id: (case.split, boxes_of(dataset, case.id)) for case in dataset.cases} == {
        "train_a": ("train", [BOXES[0]]), "b": ("train", [BOXES[0]]), "test_a": ("test", [BOXES[1]])
    }  # fmt: skip
    (tmp_path / "test" / "masks" / "a.png").unlink()
    (tmp_path / "test" / "masks").rmdir()
    problems = [finding.problem for finding in examine(tmp_path).findings if finding.severity == "warning"]
    assert any("no pairs of images and label maps in test: not used" in problem for problem in problems)


def volume(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    geometry = Geometry.plain(array.shape)
    if path.name.endswith("_mask.nii.gz"):
        write_label_map(path, array, geometry)
    else:
        write_image(path, Image(array[None].astype(np.float32), geometry))


@pytest.mark.parametrize("lesions", [False, True])
def test_the_mask_of_the_brain_is_no_object(tmp_path, rng, lesions):
    brain = np.zeros((8, 10, 12), np.uint8)
    brain[1:7, 1:9, 1:11] = 1
    drawn = np.zeros_like(brain)
    drawn[2:5, 3:6, 4:8] = 1
    volume(tmp_path / "sub-1" / "anat" / "sub-1_FLAIR.nii.gz", rng.normal(size=brain.shape))
    derived = tmp_path / "derivatives" / "x" / "sub-1" / "anat"
    volume(derived / "sub-1_desc-brain_mask.nii.gz", brain)
    if lesions:
        volume(derived / "sub-1_label-wmh_mask.nii.gz", drawn)
    result = examine(tmp_path)
    errors = [finding.problem for finding in result.findings if finding.severity == "error"]
    assert errors == ([] if lesions else ["this mask is of the brain, not of an object"])
    if lesions:
        boxes = read_case(result.dataset["sub-1"], result.dataset).instances.boxes
        assert boxes.tolist() == [[[2, 3, 4], [5, 6, 8]]]


def test_an_object_as_large_as_its_image_is_reported_as_perhaps_inverted(tmp_path):
    for name in "ab":
        write(tmp_path, name, BOXES[0])
    assert not [one for one in examine(tmp_path).findings if "whole image" in one.problem]
    path = tmp_path / "masks" / "b.png"
    Picture.fromarray(1 - np.asarray(Picture.open(path))).save(path)
    (finding,) = [one for one in examine(tmp_path).findings if "whole image" in one.problem]
    assert (finding.severity, finding.case) == ("warning", "b")
    assert (finding.problem, finding.suggested_fix) == (
        "object 1 is as large as the whole image", "if the mask is inverted, save it with 0 as background"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("slope", "intercept", "values"), [(2, 0, (0, 2)), (1 / 255, 0, (0, 1)), (1, 1, (1, 2)), (0.5, 0, None)]
)
def test_the_scale_of_a_nifti_label_map_is_applied_or_refused(tmp_path, slope, intercept, values):
    import nibabel as nib

    stored = np.zeros((6, 7, 8), np.uint8)
    stored[2:4, 2:5, 2:6] = 255 if slope < 0.1 else 1
    image = nib.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(slope, intercept)
    nib.save(image, tmp_path / "a.nii.gz")
    if values is None:
        with pytest.raises(ValueError, match="not whole numbers"):
            read_label_map(tmp_path / "a.nii.gz")
    else:
        assert tuple(np.unique(read_label_map(tmp_path / "a.nii.gz").array)) == values

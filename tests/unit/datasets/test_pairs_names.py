"""Which label map belongs to which image, by their names."""

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset, pairs_names
from boxel.io import write_image, write_label_map
from boxel.types import Geometry, Image

from .test_pairs import GRID, SHAPE, label_map


def pair(root, image, mask, shift=0):
    """An image and its label map with two objects, the first moved by `shift` columns."""
    write_image(root / f"{image}.nii.gz", Image(np.zeros((1, *SHAPE), np.float32), GRID))
    array = np.zeros(SHAPE, np.uint8)
    array[1:3, 2:5, shift : shift + 3], array[4, 6, 8] = 2, 5
    write_label_map(root / f"{mask}.nii.gz", array, GRID)


@pytest.mark.parametrize(
    ("image", "mask", "options"),
    [
        ("images/P00{n}_FLAIR", "masks/P00{n}_FLAIR_mask", []),
        ("images/P00{n}_FLAIR", "masks/P00{n}_FLAIR_seg", []),
        ("images/P00{n}_FLAIR", "masks/P00{n}_lesion", []),
        ("images/P00{n}", "masks/P00{n}_lesion", []),
        ("images/P00{n}", "masks/P00{n}-anything at all", []),
        ("images/P00{n}", "masks/lesion_P00{n}", []),
        ("images/P{n}", "masks/P{n}_v2", []),
        ("images/sub-0{n}_T1w", "masks/sub-0{n}_lesion_mask", []),
        ("images/sub-0{n}_space-x_desc", "masks/sub-0{n}_roi", []),
        ("images/P00{n}_0000", "masks/P00{n}", []),
        *(
            (f"{folder}{image}", f"{folder.replace('images', 'masks')}{mask}", [])
            for folder in ("images/", "")
            for image, mask in (
                ("img_00{n}", "mask_00{n}"),
                ("image_00{n}", "label_00{n}"),
                ("img000{n}", "label000{n}"),
                ("scan{n}", "mask{n}"),
                ("CT-{n}", "seg-{n}"),
            )
        ),
        ("scans/P00{n}", "masks/P00{n}", []),
        ("scans/P00{n}", "lesion_masks/P00{n}", []),
        ("T1/P00{n}", "ROI/P00{n}", []),
        ("T1/P00{n}", "ROI/P00{n}_ROI", []),
        ("patients/P00{n}", "tumors/P00{n}_x", []),
        ("P00{n}", "P00{n}_lesion", []),
        ("a b/P00{n}", "drawn by me/P00{n}_x", ["images=a b", "masks=drawn by me"]),
        ("all/in/P00{n}", "all/out/P00{n}", ["images=all/in", "masks=all/out"]),
        ("case{n}/ct", "case{n}/liver", ["masks=liver"]),
    ],
)
def test_label_maps_are_paired_by_the_name_of_their_image(tmp_path, image, mask, options):
    for n in (1, 2, 3):
        pair(tmp_path, image.format(n=n), mask.format(n=n), shift=n)
    problems = []
    dataset = open_dataset(
        tmp_path, problems.append, format="pairs" if options else "", options=[*options, "values=instances"]
    )
    assert (dataset.format, problems) == ("pairs", [])
    first = [read_case(case, dataset).instances.boxes[0].tolist() for case in dataset.cases]
    assert first == [[[1, 2, n], [3, 5, n + 3]] for n in (1, 2, 3)]
    assert [f"{n}" in case.id for case, n in zip(dataset.cases, (1, 2, 3), strict=True)] == [True] * 3


def test_the_longest_name_of_an_image_gets_a_label_map(tmp_path):
    for n, name in enumerate(("P1", "P1_2", "P1_b")):
        pair(tmp_path, f"images/{name}", f"masks/{name}_lesion", shift=n)
    dataset = open_dataset(tmp_path)
    first = {case.id: read_case(case, dataset).instances.boxes[0, 0, 2] for case in dataset.cases}
    assert first == {"P1": 0, "P1_2": 1, "P1_b": 2}


@pytest.mark.parametrize(
    ("images", "masks", "says"),
    [
        (("p1", "p2"), ("p1", "p3"), ["p2.nii.gz: the image has no label map (the nearest", "map has no image"]),
        (("p1", "p2"), ("p1", "p1_2"), ["p2.nii.gz: the image has no label map", "map has no image"]),
        (("p1", "p2"), ("p1_liver", "p1_lung", "p2"), ["p1.nii.gz: its label map may be any of p1_lung.nii.gz"]),
        (("p_left", "p_right"), ("p_left_x", "p_top_x"), ["p_right.nii.gz: the image", "p_top_x.nii.gz: the label"]),
        (("p1_T1", "p1_FLAIR"), ("p1_x",), ["p1_x.nii.gz: p1_T1.nii.gz and another image have this label map"]),
        (("T1_1", "FLAIR_1"), ("mask_1",), ["no label map in masks has the name of an image in images"]),
        (("a1", "a2"), ("b3", "b4"), ["no label map in masks has the name of an image in images, such as a1.nii.gz"]),
    ],
)
def test_names_that_do_not_decide_are_errors_that_name_files_that_exist(tmp_path, images, masks, says):
    for name in images:
        write_image(tmp_path / f"images/{name}.nii.gz", Image(np.zeros((1, *SHAPE), np.float32), GRID))
    for name in masks:
        write_label_map(tmp_path / f"masks/{name}.nii.gz", label_map(), GRID)
    errors = []
    open_dataset(tmp_path, errors.append, format="pairs")
    errors = [error for error in errors if "no cases" not in error.problem]
    assert len(errors) == len(says)
    for text in says:
        (error,) = [error for error in errors if text in str(error)]
        assert error.file.exists()


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("P2_L", "P2_R"),
        ("P2_left", "P2_right_seg"),
        ("P2_pre", "P2_post_mask"),
        ("P2_T1", "P2_T2_seg"),
        ("P2_baseline", "P2_mask_followup"),
        ("P2_2019", "P2_2021_seg"),
        ("P2_CT", "mask_PET_P2"),
        ("P2_axial", "P2_coronal"),
        ("img_2", "mask_2_post"),
        ("img_2", "mask_21"),
    ],
)
@pytest.mark.parametrize("others", [0, 2])
def test_names_that_say_different_things_are_never_paired(tmp_path, image, mask, others):
    for n in range(others):
        pair(tmp_path, f"images/{image.replace('2', str(n), 1)}", f"masks/{image.replace('2', str(n), 1)}_mask")
    write_image(tmp_path / f"images/{image}.nii.gz", Image(np.zeros((1, *SHAPE), np.float32), GRID))
    write_label_map(tmp_path / f"masks/{mask}.nii.gz", label_map(), GRID)
    errors = []
    open_dataset(tmp_path, errors.append, format="pairs")
    if others:
        assert {error.problem for error in errors if error.severity == "error"} == {
            f"the image has no label map (the nearest name is {mask}.nii.gz)",
            f"the label map has no image (the nearest name is {image}.nii.gz)",
        }
    else:
        assert f"such as {image}.nii.gz (nearest: {mask}.nii.gz)" in errors[0].problem


def test_one_of_several_images_in_a_folder_is_chosen_by_its_word(tmp_path):
    for n in (1, 2):
        pair(tmp_path, f"images/p{n}_T1", f"masks/p{n}_x", shift=n)
        pair(tmp_path, f"images/p{n}_FLAIR", f"masks/p{n}_x", shift=n)
    dataset = open_dataset(tmp_path, options=["image=flair"])
    assert [case.channels[0].name for case in dataset.cases] == ["p1_FLAIR.nii.gz", "p2_FLAIR.nii.gz"]


def test_a_folder_of_images_that_does_not_exist_is_an_error(tmp_path):
    pair(tmp_path, "images/p1", "masks/p1")
    with pytest.raises(ValueError, match=r"scan: no such folder; .*images=FOLDER"):
        open_dataset(tmp_path, options=["images=scan"])
    with pytest.raises(ValueError, match=r"masks=roi: no folder and no file"):
        open_dataset(tmp_path, options=["masks=roi"])


def test_names_that_a_label_map_has_are_never_left_out(tmp_path):
    names = ["0a1b", "petri", "mri", "x_ct"]  # words for images, alone and within other words
    for name in names:
        write_image(tmp_path / "images" / f"{name}.png", Image(np.zeros((1, 8, 8), np.uint8), Geometry.plain((8, 8))))
        write_label_map(tmp_path / "labels" / f"{name}.png", np.eye(8, dtype=np.uint8), Geometry.plain((8, 8)))
    assert sorted(case.id for case in open_dataset(tmp_path).cases) == sorted(names)


def test_very_many_names_are_matched_with_few_comparisons(monkeypatch):
    compared = []
    true = pairs_names.contradict
    monkeypatch.setattr(pairs_names, "contradict", lambda *names: compared.append(names) or true(*names))
    images, maps = [f"p{k}_t1" for k in range(3000)], [f"p{k}_mask" for k in range(3000)]
    assert pairs_names.matched(images, maps) == (dict(zip(images, maps, strict=True)), {})
    assert len(compared) <= 2 * len(images)

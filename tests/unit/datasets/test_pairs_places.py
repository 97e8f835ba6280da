"""Which folders and files are images, label maps, and parts of a split, where a data set has more than two folders."""

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.io import write_label_map
from boxel.types import Geometry

from .test_contradictions import outcome, said
from .test_drawing_tools import picture


def draw(path, *values):
    """A label map with a square of each value, one beside the other."""
    array = np.zeros((40, 60), np.uint8)
    for number, value in enumerate(values):
        array[4:12, 12 * number : 12 * number + 8] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    write_label_map(path, array, Geometry.plain(array.shape))


@pytest.mark.parametrize("folder", ["masks", "labels", "segmentations", "lesions"])
def test_a_folder_of_masks_beside_images_is_no_data_set_of_its_own(tmp_path, folder):
    for name in ("p0", "p1"):
        picture(tmp_path / f"images/{name}.png")
        for kind in ("tumor", "node"):
            draw(tmp_path / f"{folder}/{kind}/{name}.png", 1)
    with pytest.raises(ValueError, match=f"(?s)not a data set .*masks={folder}/FOLDER") as raised:
        open_dataset(tmp_path)
    assert "images/" in str(raised.value)
    data = open_dataset(tmp_path, lambda _: None, format="pairs", options=[f"masks={folder}/node"])
    assert [(case.channels[0].parent.name, case.file.parent.name) for case in data.cases] == [("images", "node")] * 2


def test_a_data_set_in_a_folder_that_is_called_like_masks_is_opened(tmp_path):
    picture(tmp_path / "segmentation/images/a.png")
    draw(tmp_path / "segmentation/masks/a.png", 1)
    picture(tmp_path / "overview.png")
    assert [case.id for case in open_dataset(tmp_path, lambda _: None).cases] == ["a"]


@pytest.mark.parametrize("folders", [("TCGA_1", "TCGA_2"), ("site1", "site2"), ("train", "test"), ("benign", "p1")])
def test_folders_are_classes_only_where_they_are_called_so(tmp_path, folders):
    for folder in folders:
        for name in ("a", "b"):
            picture(tmp_path / folder / f"{folder}{name}.png")
            draw(tmp_path / folder / f"{folder}{name}_mask.png", 1)
    problems = []
    data = open_dataset(tmp_path, problems.append)
    assert (data.format, data.classes, len(data.cases)) == ("pairs", ("object",), 4)
    about = said(problems, "note", "hold several cases each", *folders, "--format busi")
    assert about == ("train" not in folders)
    assert open_dataset(tmp_path, lambda _: None, format="busi").classes == tuple(sorted(folders))


@pytest.mark.parametrize("images", [("p1",), ("scan",), ("a", "b")])
def test_a_folder_per_patient_with_label_maps_is_no_folder_per_image_of_kaggle(tmp_path, images):
    for patient in ("p1", "p2"):
        for image in images:
            name = image.replace("p1", patient)
            picture(tmp_path / patient / f"images/{name}.png")
            draw(tmp_path / patient / f"masks/{name}.png", 1, 2)
    data = open_dataset(tmp_path, lambda _: None)
    assert (data.format, len(data.cases)) == ("pairs", 2 * len(images))
    assert all(case.file.parts[-3] == case.channels[0].parts[-3] for case in data.cases)
    assert [len(read_case(case, data).instances) for case in data.cases] == [2] * len(data.cases)


@pytest.mark.parametrize(
    "order", ["{kind}/{part}/{name}.png", "{kind}/{part}/inner/{name}.png", "{part}/{kind}/{name}.png"]
)
@pytest.mark.parametrize("word", ["test", "Testing", "holdout"])
def test_folders_of_parts_hold_out_test_cases_inside_and_outside_of_images_and_masks(tmp_path, order, word):
    for part, name in (("train", "a"), ("val", "b"), (word, "c")):
        picture(tmp_path / order.format(kind="images", part=part, name=name))
        draw(tmp_path / order.format(kind="masks", part=part, name=name), 1)
    cases = outcome(tmp_path, "pairs")[0]
    assert {name: case.split for name, case in cases.items()} == {"a": "train", "b": "train", "c": "test"}


def test_images_in_folders_of_two_parts_are_errors(tmp_path):
    for place in ("a", "train/test/b"):
        picture(tmp_path / f"images/{place}.png")
        draw(tmp_path / f"masks/{place}.png", 1)
    cases, problems = outcome(tmp_path, "pairs")
    assert list(cases) == ["a"]
    assert said(problems, "error", "folders train and test", "b.png")


def test_values_without_a_class_are_errors_of_their_case(tmp_path):
    for name, values in (("a", (1, 2)), ("b", (1, 7))):
        picture(tmp_path / f"images/{name}.png")
        draw(tmp_path / f"masks/{name}.png", *values)
    names = tmp_path / "class_names.json"
    for options in (["classes=liver,tumor"], ["values=classes", "classes=liver,tumor"], []):
        if not options:
            names.write_text('{"1": "liver", "2": "tumor"}')
        data = open_dataset(tmp_path, lambda _: None, options=options)
        assert read_case(data["a"], data).instances.labels.tolist() == [0, 1]
        with pytest.raises(ValueError, match="the values 7 have no class; known: 1, 2"):
            read_case(data["b"], data)


def test_shared_values_that_do_not_count_from_one_are_named_in_the_advice(tmp_path):
    for name in "ab":
        picture(tmp_path / f"images/{name}.png")
        draw(tmp_path / f"masks/{name}.png", 2, 5)
    problems = outcome(tmp_path, "pairs")[1]
    advice = '{"2": "class 2", "5": "class 5"}'
    assert said(problems, "warning", "share the values 2, 5", f"class_names.json: {advice}")
    assert not said(problems, "warning", "classes=FIRST")
    (tmp_path / "class_names.json").write_text(advice)
    data = open_dataset(tmp_path)
    assert [read_case(case, data).instances.labels.tolist() for case in data.cases] == [[0, 1]] * 2


@pytest.mark.parametrize(
    ("names", "unused", "option"),
    [
        (("p{}/ct.png", "p{}/tumor.png", "p{}/liver.png"), "p1/liver.png", "masks=liver"),
        (("p{}_ct.png", "p{}_tumor.png", "p{}_lymph_node.png"), "p1_lymph_node.png", "masks=lymph_node"),
        (("images/p{}.png", "tumor/p{}.png", "node/p{}.png"), "node", "masks=node"),
    ],
)
def test_further_label_maps_of_cases_are_a_warning_that_names_the_option_which_uses_them(
    tmp_path, names, unused, option
):
    image, *maps = names
    for case in (1, 2):
        picture(tmp_path / image.format(case))
        for file in maps:
            draw(tmp_path / file.format(case), 1)
    problems = []
    data = open_dataset(tmp_path, problems.append)
    assert {"tumor" in str(case.file.relative_to(tmp_path)) for case in data.cases} == {True}
    assert said(problems, "warning", "not ", unused, f"--option {option}")
    problems = []
    data = open_dataset(tmp_path, problems.append, options=[option])
    assert {option[6:] in str(case.file.relative_to(tmp_path)) for case in data.cases} == {True}
    assert not [one for one in problems if one.severity != "note"]


def test_files_of_other_images_are_not_warned_about(tmp_path):
    for name in ("p1_ct", "p2"):
        picture(tmp_path / f"{name}.png")
    draw(tmp_path / "p1_mask.png", 1)
    assert not [one for one in outcome(tmp_path, "pairs")[1] if one.severity == "warning"]

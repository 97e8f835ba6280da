"""Annotations that contradict themselves or lack what they need are reported, never silently guessed."""

import json

import numpy as np
import pytest
from PIL import Image as Picture

from boxel.datasets.formats import open_dataset
from boxel.datasets.problems import InputError
from boxel.datasets.quality.check import examine


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60)).astype(np.uint8)).save(path)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def outcome(path, layout):
    """The cases that are read, and the problems, errors that end the reading among them."""
    problems = []
    try:
        dataset = open_dataset(path, problems.append, format=layout)
    except InputError as problem:
        return {}, [*problems, problem]
    return {case.id: case for case in dataset.cases}, problems


def said(problems, severity, *words):
    return any(one.severity == severity and all(word in str(one) for word in words) for one in problems)


def yolo(root, names=("a", "b"), folder="", head="names: [cell]\n", classes=(0, 0)):
    for name, label in zip(names, classes, strict=True):
        picture(root / "images/train" / folder / f"{name}.png")
        text(root / "labels/train" / folder / f"{name}.txt", f"{label} 0.3 0.3 0.2 0.2\n")
    text(root / "data.yaml", head)


def test_masks_beside_the_images_of_yolo_are_no_cases(tmp_path):
    yolo(tmp_path)
    for place in ("masks/a.png", "masks/b.png", "a_mask.png", "b-seg.png"):
        picture(tmp_path / "images/train" / place)
    cases, problems = outcome(tmp_path, "yolo")
    assert len(cases) == 2
    assert said(problems, "note", "4 images are masks", "a_mask.png")


def test_images_of_yolo_that_are_named_like_masks_are_cases_if_annotated(tmp_path):
    yolo(tmp_path, ("a", "a_mask"))
    assert len(outcome(tmp_path, "yolo")[0]) == 2


def test_a_folder_of_yolo_without_any_annotation_is_an_error(tmp_path):
    yolo(tmp_path, folder="p1")
    picture(tmp_path / "images/train/p2/c.png")
    _, problems = outcome(tmp_path, "yolo")
    assert said(problems, "error", "labels/train/p2", "no annotation for any of the 1 images")


def test_a_yolo_class_between_the_named_ones_is_an_error(tmp_path):
    yolo(tmp_path, head="names: {0: cell, 2: dot}\n", classes=(0, 1))
    _, problems = outcome(tmp_path, "yolo")
    assert said(problems, "error", "class 1", "0 (cell), 2 (dot)")
    yolo(tmp_path, head="names: {0: cell, 2: dot}\n", classes=(0, 2))
    assert len(outcome(tmp_path, "yolo")[0]) == 2


def task(image, objects=1, rotation=0, **annotation):
    value = {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0, "rectanglelabels": ["cell"]}
    result = {
        "type": "rectanglelabels",
        "original_width": 60,
        "original_height": 40,
        "image_rotation": rotation,
        "value": value,
    }
    return {"data": {"image": image}, "annotations": [{"result": [result] * objects, **annotation}]}


def test_tasks_of_label_studio_without_a_submitted_annotation_are_left_out(tmp_path):
    for name in "abcde":
        picture(tmp_path / f"{name}.png")
    predicted = {"data": {"image": "d.png"}, "predictions": [{"result": task("d.png")["annotations"][0]["result"]}]}
    tasks = [task("a.png"), {"data": {"image": "b.png"}, "annotations": []}, task("c.png", was_cancelled=True)]
    text(tmp_path / "p.json", [*tasks, predicted, task("e.png", objects=0)])
    cases, problems = outcome(tmp_path, "label_studio")
    assert {name[0] for name in cases} == {"a", "e"}
    assert said(problems, "warning", "3 tasks are not annotated", "1, 2, 3")


def test_objects_of_label_studio_drawn_on_a_turned_image_are_an_error_of_the_case(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    text(tmp_path / "p.json", [task("a.png"), task("b.png", rotation=90)])
    cases, problems = outcome(tmp_path, "label_studio")
    assert list(cases) == ["a"]
    assert said(problems, "error", "b.png", "turned by 90 degrees")


def coco(root, **entry):
    picture(root / "a.png")
    image = {"id": 1, "file_name": "a.png", "height": 40, "width": 60}
    one = {"id": 7, "image_id": 1, "category_id": 1, "bbox": [8, 5, 12, 8], **entry}
    text(root / "x.json", {"images": [image], "annotations": [one], "categories": [{"id": 1, "name": "cell"}]})


@pytest.mark.parametrize(("value", "crowd"), [("0", False), ("false", False), (None, False), ("1", True), (True, True)])
def test_crowds_of_coco_may_be_given_as_text(tmp_path, value, crowd):
    coco(tmp_path, iscrowd=value)
    cases, _ = outcome(tmp_path, "coco")
    assert list(cases["a"].labels) == ([] if crowd else [0])


def test_an_unknown_crowd_of_coco_is_an_error(tmp_path):
    coco(tmp_path, iscrowd="maybe")
    assert said(outcome(tmp_path, "coco")[1], "error", "iscrowd of object 7", "maybe")


def test_a_polygon_of_coco_beside_its_box_is_an_error(tmp_path):
    coco(tmp_path, segmentation=[[40, 25, 52, 25, 52, 33, 40, 33]])
    assert said(outcome(tmp_path, "coco")[1], "error", "object 7", "lies beside its polygon")
    coco(tmp_path, segmentation=[[9, 5, 20, 5, 20, 13, 9, 13]])
    assert not outcome(tmp_path, "coco")[1]


def voc(root, name, filename, label="cell"):
    picture(root / f"JPEGImages/{name}.png")
    box = "<bndbox><xmin>9</xmin><ymin>6</ymin><xmax>20</xmax><ymax>13</ymax></bndbox>"
    head = f"<annotation><filename>{filename}</filename>"
    text(root / f"Annotations/{name}.xml", f"{head}<object><name>{label}</name>{box}</object></annotation>")


def test_a_voc_annotation_that_names_another_image_is_an_error(tmp_path):
    voc(tmp_path, "x", "y.png")
    voc(tmp_path, "y", "y.png")
    cases, problems = outcome(tmp_path, "voc")
    assert list(cases) == ["y"]
    assert said(problems, "error", "x.xml", "'y.png'", "x.png")


def test_a_voc_annotation_that_names_an_absent_image_takes_that_of_its_name(tmp_path):
    voc(tmp_path, "x", "old.png")
    assert list(outcome(tmp_path, "voc")[0]) == ["x"]


def test_a_voc_object_without_name_is_an_error(tmp_path):
    voc(tmp_path, "a", "a.png")
    voc(tmp_path, "b", "b.png", label="")
    cases, problems = outcome(tmp_path, "voc")
    assert list(cases) == ["a"]
    assert said(problems, "error", "b.xml", "object 1 has no <name>")


def cvat(root, *shapes):
    images = "".join(
        f'<image id="{n}" name="{name}.png" width="60" height="40">{shape}</image>'
        for n, (name, shape) in enumerate(zip("ab", shapes, strict=False))
    )
    for name in "ab"[: len(shapes)]:
        picture(root / f"{name}.png")
    text(root / "annotations.xml", f"<annotations><version>1.1</version>{images}</annotations>")


CVAT_BOX = '<box label="{}" xtl="8" ytl="5" xbr="20" ybr="13"/>'


def test_a_cvat_object_without_label_is_an_error(tmp_path):
    cvat(tmp_path, CVAT_BOX.format("cell"), CVAT_BOX.format(""))
    cases, problems = outcome(tmp_path, "cvat")
    assert list(cases) == ["a"]
    assert said(problems, "error", "box of b.png has no label")


def test_a_via_region_without_class_among_others_with_one_is_an_error(tmp_path):
    shape = {"name": "rect", "x": 8, "y": 5, "width": 12, "height": 8}
    classes = {"a": {"type": "cell"}, "b": {"type": ""}}
    for name in classes:
        picture(tmp_path / f"{name}.png")

    def regions(known):
        return [{"shape_attributes": shape, "region_attributes": known}]

    text(tmp_path / "v.json", {n: {"filename": f"{n}.png", "regions": regions(k)} for n, k in classes.items()})
    cases, problems = outcome(tmp_path, "via")
    assert list(cases) == ["a"]
    assert said(problems, "error", "region 0 of b.png has no class")


def test_polygons_with_too_few_points_are_left_out_and_the_case_is_kept(tmp_path):
    box = CVAT_BOX.format("cell")
    cvat(tmp_path / "cvat", box + '<polygon label="cell" points=""/><polygon label="cell" points="1,1;5,5"/>')
    picture(tmp_path / "labelme/a.png")
    rectangle = {"label": "cell", "shape_type": "rectangle", "points": [[8, 5], [20, 13]]}
    empty = {"label": "cell", "shape_type": "polygon", "points": []}
    text(tmp_path / "labelme/a.json", {"imagePath": "a.png", "shapes": [empty, rectangle]})
    picture(tmp_path / "label_studio/a.png")
    few = task("a.png")
    polygon = {"points": [[1, 2], [5, 5]], "polygonlabels": ["cell"]}
    few["annotations"][0]["result"].append(
        {"type": "polygonlabels", "original_width": 60, "original_height": 40, "value": polygon}
    )
    text(tmp_path / "label_studio/p.json", [few])
    picture(tmp_path / "via/a.png")
    shapes = [
        {"name": "rect", "x": 8, "y": 5, "width": 12, "height": 8},
        {"name": "polygon", "all_points_x": [], "all_points_y": []},
    ]
    regions = [{"shape_attributes": shape, "region_attributes": {"type": "cell"}} for shape in shapes]
    text(tmp_path / "via/v.json", {"a": {"filename": "a.png", "regions": regions}})
    for layout in ("cvat", "labelme", "label_studio", "via"):
        cases, problems = outcome(tmp_path / layout, layout)
        assert list(cases["a"].labels) == [0], layout
        assert said(problems, "warning", "fewer than three points; the object is left out"), layout


def test_an_image_that_two_annotations_name_is_reported_with_both(tmp_path):
    picture(tmp_path / "a.png")
    for name in ("one", "two"):
        shape = {"label": "cell", "shape_type": "rectangle", "points": [[8, 5], [20, 13]]}
        text(tmp_path / f"{name}.json", {"imagePath": "a.png", "shapes": [shape]})
    findings = examine(tmp_path, format="labelme").findings
    assert any("duplicate case" in str(one) and "one.json" in str(one) and "two.json" in str(one) for one in findings)


def via(root, *attributes):
    shape = {"name": "rect", "x": 8, "y": 5, "width": 12, "height": 8}
    for name in "ab":
        picture(root / f"{name}.png")
    values = {
        f"{name}.png1": {"filename": f"{name}.png", "regions": [{"shape_attributes": shape, "region_attributes": own}]}
        for name, own in zip("ab", attributes, strict=True)
    }
    text(root / "via.json", values)


def test_blanks_around_a_class_of_via_do_not_count(tmp_path):
    via(tmp_path, {"type": 0}, {"type": " 0"})
    assert [list(case.labels) for case in outcome(tmp_path, "via")[0].values()] == [[0], [0]]
    via(tmp_path, {"type": " cell"}, {"type": {"cell ": True, "dot": False}, "note": "  "})
    cases, problems = outcome(tmp_path, "via")
    assert not problems
    assert [list(case.labels) for case in cases.values()] == [[0], [0]]


def test_a_region_of_via_with_several_classes_or_none_is_an_error(tmp_path):
    via(tmp_path, {"type": "cell"}, {"type": {"cell": True, "dot": True}})
    assert said(outcome(tmp_path, "via")[1], "error", "region 0 of b.png has the classes cell and dot")
    via(tmp_path, {"type": "cell"}, {"type": {"cell": False, "dot": False}})
    assert said(outcome(tmp_path, "via")[1], "error", "region 0 of b.png has no class")


def test_a_region_of_label_studio_with_several_labels_is_an_error(tmp_path):
    picture(tmp_path / "a.png")
    one = task("a.png")
    result = one["annotations"][0]["result"][0]
    result["id"] = "r7"
    result["value"]["rectanglelabels"] = ["cell ", "dot"]
    text(tmp_path / "p.json", [one])
    assert said(outcome(tmp_path, "label_studio")[1], "error", "region r7 of a.png has the labels cell and dot")


@pytest.mark.parametrize(("scores", "warned"), [((0.93, 0.4), True), ((1, 1.0), False), ((None, None), False)])
def test_coco_annotations_with_scores_look_like_predictions_which_is_a_warning(tmp_path, scores, warned):
    picture(tmp_path / "a.png")
    objects = [{"id": n, "image_id": 1, "category_id": 1, "bbox": [8, 5, 12, 8], "score": s}
               for n, s in enumerate(scores)]  # fmt: skip
    head = {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "cell"}]}
    text(tmp_path / "annotations.json", {**head, "annotations": objects})
    cases, problems = outcome(tmp_path, "coco")
    assert list(cases) == ["a"]
    assert said(problems, "warning", "annotations.json", "score", "look like predictions") == warned

"""Sizes and flags that annotations declare: compared, used or refused, never silently dropped."""

import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import examine

from .test_contradictions import outcome, picture, said, text

BOX = "<bndbox><xmin>9</xmin><ymin>6</ymin><xmax>20</xmax><ymax>13</ymax></bndbox>"


def coco(root, height=40, width=60, **entry):
    picture(root / "a.png")
    image = {"id": 1, "file_name": "a.png", "height": height, "width": width}
    entries = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": [8 + 20 * n, 5, 12, 8], **(entry if n else {})}
        for n in range(2)
    ]
    text(root / "x.json", {"images": [image], "annotations": entries, "categories": [{"id": 1, "name": "cell"}]})


def voc(root, height=40, width=60, **entry):
    picture(root / "JPEGImages/a.png")
    sides = "".join(f"<{key}>{value}</{key}>" for key, value in (("height", height), ("width", width)) if value)
    more = "".join(f"<{key}>{value}</{key}>" for key, value in entry.items())
    objects = f"<object><name>cell</name>{BOX}</object>"
    objects += f"<object><name>cell</name>{BOX.replace('>9<', '>29<').replace('20', '40')}{more}</object>"
    text(root / "Annotations/a.xml", f"<annotation><size>{sides}</size>{objects}</annotation>")


def labelme(root, height=40, width=60, **entry):
    picture(root / "a.png")
    shapes = [
        {"label": "cell", "shape_type": "rectangle", "points": [[x, 5], [x + 12, 13]], **more}
        for x, more in ((8, {}), (28, entry))
    ]
    text(root / "a.json", {"imagePath": "a.png", "imageHeight": height, "imageWidth": width, "shapes": shapes})


def label_studio(root, height=40, width=60):
    picture(root / "a.png")
    value = {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0, "rectanglelabels": ["cell"]}
    result = {"type": "rectanglelabels", "original_width": width, "original_height": height, "value": value}
    text(root / "p.json", [{"data": {"image": "a.png"}, "annotations": [{"result": [result]}]}])


def cvat(root, height=40, width=60):
    picture(root / "a.png")
    box = '<box label="cell" xtl="8" ytl="5" xbr="20" ybr="13"/>'
    image = f'<image id="0" name="a.png" width="{width or ""}" height="{height or ""}">{box}</image>'
    text(root / "annotations.xml", f"<annotations><version>1.1</version>{image}</annotations>")


LAYOUTS = {"coco": coco, "voc": voc, "labelme": labelme, "label_studio": label_studio, "cvat": cvat}


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "label_studio"])  # which needs both
@pytest.mark.parametrize(("height", "width", "shown"), [(None, 120, "(?, 120)"), (80, None, "(80, ?)")])
def test_one_side_of_a_declared_size_is_compared_with_the_image(tmp_path, layout, height, width, shown):
    LAYOUTS[layout](tmp_path, height, width)
    assert said(examine(tmp_path, format=layout).findings, "error", f"image of shape {shown}", "a.png has (40, 60)")
    LAYOUTS[layout](tmp_path, height and 40, width and 60)
    assert not [one for one in examine(tmp_path, format=layout).findings if one.severity == "error"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("width", "shown"), [(60.5, "'60.5'"), ("wide", "'wide'"), (-60, "'-60'")])
def test_a_declared_size_that_is_no_whole_number_is_an_error(tmp_path, layout, width, shown):
    LAYOUTS[layout](tmp_path, 40, width)
    assert said(outcome(tmp_path, layout)[1], "error", "width of", shown)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_declared_size_may_be_a_text_or_a_float(tmp_path, layout):
    LAYOUTS[layout](tmp_path, "40", 60.0)
    assert not [one for one in examine(tmp_path, format=layout).findings if one.severity == "error"]


IGNORED = [
    ("coco", coco, {"ignore": 1}),
    ("coco", coco, {"ignore": "true"}),
    ("voc", voc, {"difficult": "true"}),
    ("voc", voc, {"difficult": "1.0"}),
    ("labelme", labelme, {"difficult": True}),
    ("labelme", labelme, {"flags": {"difficult": True}}),
    ("labelme", labelme, {"flags": {"Ignore": 1}}),
]


@pytest.mark.parametrize(("layout", "write", "entry"), IGNORED)
def test_objects_marked_as_difficult_or_ignored_are_ignored_objects(tmp_path, layout, write, entry):
    write(tmp_path, **entry)
    data = open_dataset(tmp_path, format=layout)
    case = read_case(data.cases[0], data)
    assert case.instances.boxes.tolist() == [[[5, 8], [13, 20]]]
    assert case.ignored.boxes.tolist() == [[[5, 28], [13, 40]]]
    assert not case.ignores_regions
    assert data.cases[0].labels == [0]


NOT_IGNORED = [
    ("coco", coco, {"ignore": 0}),
    ("voc", voc, {"difficult": "false"}),
    ("voc", voc, {"difficult": "Unspecified"}),
    ("labelme", labelme, {"difficult": False, "flags": {"difficult": False, "blurred": True}}),
]


@pytest.mark.parametrize(("layout", "write", "entry"), NOT_IGNORED)
def test_objects_that_are_not_marked_are_used(tmp_path, layout, write, entry):
    write(tmp_path, **entry)
    data = open_dataset(tmp_path, format=layout)
    assert len(read_case(data.cases[0], data).instances) == 2


@pytest.mark.parametrize(
    ("layout", "write", "entry", "what"),
    [
        ("coco", coco, {"ignore": "maybe"}, "ignore of object 1"),
        ("voc", voc, {"difficult": "maybe"}, "<difficult> of object 2 (cell)"),
        ("labelme", labelme, {"difficult": "maybe"}, "difficult of shape 1"),
    ],
)
def test_a_mark_that_is_neither_true_nor_false_is_an_error(tmp_path, layout, write, entry, what):
    write(tmp_path, **entry)
    assert said(outcome(tmp_path, layout)[1], "error", what, "'maybe'")


def test_a_crowd_and_an_ignored_object_are_both_ignored(tmp_path):
    coco(tmp_path, iscrowd=1, ignore=1)
    data = open_dataset(tmp_path, format="coco")
    case = read_case(data.cases[0], data)
    assert len(case.ignored) == 1
    assert case.ignores_regions


def test_boxes_of_coco_with_the_area_0_are_a_warning(tmp_path):
    coco(tmp_path, area=0)
    assert said(outcome(tmp_path, "coco")[1], "warning", "area of objects with a bbox is 0: 1", "[x, y, width, height]")
    coco(tmp_path, area=96)
    assert not outcome(tmp_path, "coco")[1]

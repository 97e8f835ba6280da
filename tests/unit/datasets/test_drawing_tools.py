"""Layouts of drawing tools: the boxes that were drawn, on the pictures they belong to."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.problems import InputError

ROWS, COLUMNS = 40, 60
BOX = [[8, 10], [20, 34]]  # rows 8 to 20, columns 10 to 34


def picture(path, box=BOX, shape=(ROWS, COLUMNS)):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full(shape, 20, np.uint8)
    (y0, x0), (y1, x1) = box
    array[y0:y1, x0:x1] = 220
    Picture.fromarray(array).save(path)


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(values if isinstance(values, str) else json.dumps(values))


def only(root, report=None, **options):
    """The one case of a data set, after reading it."""
    data = open_dataset(root, *([report] if report else []), options=[f"{k}={v}" for k, v in options.items()])
    (case,) = data.cases
    return data, read_case(case, data)


def labelme(shape, **values):
    return {"imagePath": "a.png", "imageHeight": ROWS, "imageWidth": COLUMNS, "shapes": [shape], **values}


def mask_png():
    buffer = io.BytesIO()
    Picture.fromarray(np.ones((12, 24), bool)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


CORNERS = [[10, 8], [34, 8], [34, 20], [10, 20]]  # x, y


def studio(kind, value, **more):
    result = {"type": kind, "original_width": COLUMNS, "original_height": ROWS, "value": value | {kind: ["cell"]}}
    return [
        {"id": 1, "data": {"image": "/data/upload/3/0a1b2c3d-a.png"}, "annotations": [{"result": [result]}], **more}
    ]


def percent(points):
    return [[100 * x / COLUMNS, 100 * y / ROWS] for x, y in points]


def cvat(inner, attributes=""):
    image = f'<image id="0" name="a.png" width="{COLUMNS}" height="{ROWS}" {attributes}>{inner}</image>'
    return f'<?xml version="1.0"?><annotations><version>1.1</version><meta/>{image}</annotations>'


def via(shape, known=None):
    region = {"shape_attributes": shape, "region_attributes": {"type": "cell"} if known is None else known}
    return {"_via_img_metadata": {"a.png99": {"filename": "a.png", "size": 99, "regions": [region]}}}


POLYGON = ";".join(f"{x},{y}" for x, y in CORNERS)
X, Y = [x for x, _ in CORNERS], [y for _, y in CORNERS]
QUARTER = {"x": 100 * 34 / COLUMNS, "y": 100 * 8 / ROWS, "width": 100 * 12 / COLUMNS, "height": 100 * 24 / ROWS}

# Each is the box BOX; with a mask unless the tool drew a rectangle.
DRAWN = {
    "labelme polygon": ("a.json", labelme({"label": "cell", "shape_type": "polygon", "points": CORNERS})),
    "labelme rectangle": ("a.json", labelme({"label": "cell", "shape_type": "rectangle", "points": CORNERS[::2]})),
    "labelme mask": (
        "a.json", labelme({"label": "cell", "shape_type": "mask", "points": [[10, 8], [33, 19]], "mask": mask_png()})
    ),
    "labelme on Windows": (
        "json/a.json",
        labelme({"label": "cell", "shape_type": "polygon", "points": CORNERS}, imagePath="..\\images\\a.png"),
    ),
    "via rect": ("via.json", via({"name": "rect", "x": 10, "y": 8, "width": 24, "height": 12})),
    "via polygon": ("via.json", via({"name": "polygon", "all_points_x": X, "all_points_y": Y})),
    "via data": ("d.json", via({"name": "rect", "x": 10, "y": 8, "width": 24, "height": 12})["_via_img_metadata"]),
    "via csv": (
        "via.csv",
        "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
        'a.png,9,"{}",1,0,"{""name"":""rect"",""x"":10,""y"":8,""width"":24,""height"":12}","{""type"":""cell""}"\n',
    ),
    "cvat box": ("annotations.xml", cvat('<box label="cell" xtl="10" ytl="8" xbr="34" ybr="20"/>')),
    "cvat turned": (
        "annotations.xml", cvat('<box label="cell" xtl="16" ytl="2" xbr="28" ybr="26" rotation="90.0"/>')
    ),
    "cvat polygon": ("annotations.xml", cvat(f'<polygon label="cell" points="{POLYGON}"/>')),
    "cvat mask": (
        "annotations.xml",
        cvat(f'<mask label="cell" left="10" top="8" width="24" height="12" rle="0, {24 * 12}"/>'),
    ),
    "studio rectangle": (
        "p.json",
        studio("rectanglelabels", {"x": 100 / 6, "y": 20, "width": 40, "height": 30, "rotation": 0}),
    ),
    "studio turned": ("p.json", studio("rectanglelabels", QUARTER | {"rotation": 90})),
    "studio polygon": ("p.json", studio("polygonlabels", {"points": percent(CORNERS)})),
    "studio min": (
        "p.json",
        [{"image": "/data/local-files/?d=images/a.png", "id": 1, "label": [
            {"x": 100 / 6, "y": 20, "width": 40, "height": 30, "rotation": 0, "rectanglelabels": ["cell"],
             "original_width": COLUMNS, "original_height": ROWS}]}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_what_was_drawn_is_read(tmp_path, name):
    picture(tmp_path / "images" / "a.png")
    file, values = DRAWN[name]
    write(tmp_path / file, values)
    data, loaded = only(tmp_path)
    assert data.classes == ("cell",)
    np.testing.assert_allclose(loaded.instances.boxes, [BOX], atol=1e-4)
    assert loaded.instances.has_mask.tolist() == [
        not any(word in name for word in ("rect", "box", "data", "csv", "min"))
    ]
    assert loaded.image.array[0, 8:20, 10:34].min() == 220


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("a.json", labelme({"label": "cell", "shape_type": "circle", "points": [[30, 20], [30, 29]]})),
        ("v.json", via({"name": "circle", "cx": 30, "cy": 20, "r": 9})),
        ("v.json", via({"name": "ellipse", "cx": 30, "cy": 20, "rx": 9, "ry": 9, "theta": 0.7})),
        ("c.xml", cvat('<ellipse label="cell" cx="30" cy="20" rx="9" ry="9"/>')),
        ("p.json", studio("ellipselabels", {"x": 50, "y": 50, "radiusX": 15, "radiusY": 22.5})),
    ],
)
def test_circles_are_masks(tmp_path, file, values):
    picture(tmp_path / "a.png")
    write(tmp_path / file, values)
    _, loaded = only(tmp_path)
    np.testing.assert_allclose(loaded.instances.boxes, [[[11, 21], [29, 39]]], atol=1)
    assert loaded.label_map.sum() == pytest.approx(np.pi * 81, rel=0.03)


def test_an_ellipse_is_turned_clockwise_as_drawn(tmp_path):
    """CVAT's rotation of 90 degrees swaps the radii; one of 30 keeps the area."""
    picture(tmp_path / "a.png")
    for degrees, sides in ((90, (20, 10)), (0, (10, 20))):
        write(tmp_path / "c.xml", cvat(f'<ellipse label="a" cx="30" cy="20" rx="10" ry="5" rotation="{degrees}"/>'))
        (lower, upper) = only(tmp_path)[1].instances.boxes[0]
        np.testing.assert_allclose(upper - lower, sides, atol=1)


def test_polygons_of_one_group_are_one_object(tmp_path):
    """LabelMe's way to draw an object that another one divides."""
    picture(tmp_path / "a.png")
    left, right = [[2, 2], [8, 2], [8, 8], [2, 8]], [[20, 2], [26, 2], [26, 8], [20, 8]]
    shapes = [
        {"label": "cell", "shape_type": "polygon", "points": points, "group_id": group}
        for points, group in ((left, 1), (right, 1), ([[40, 20], [50, 20], [50, 30]], None))
    ]
    write(tmp_path / "a.json", labelme(None) | {"shapes": shapes})
    boxes = only(tmp_path)[1].instances.boxes.tolist()
    assert [[2, 2], [8, 26]] in boxes
    assert len(boxes) == 2


@pytest.mark.parametrize(
    ("file", "values", "says"),
    [
        ("a.json", labelme({"label": "", "points": CORNERS}), "has no label"),
        ("a.json", labelme({"label": "a", "points": CORNERS}, imageHeight=80), r"made for .* \(80, 60\), .*\(40, 60\)"),
        ("a.json", labelme({"label": "a", "points": CORNERS}, imagePath="b.png"), "'b.png' does not exist"),
        ("v.json", via({"name": "rect", "x": 1, "y": 1, "width": 0, "height": 4}), "has no extent"),
        ("v.json", via({"name": "rect", "x": 1}), "rect of a.png"),
        ("v.json", via({"name": "rect", "x": 1}, {"type": "a", "grade": "b"}), "--option attribute=type"),
        ("c.xml", cvat('<mask label="a" left="0" top="0" width="2" height="2" rle="1, 9"/>'), "10 pixels in a box of"),
        ("c.xml", cvat("").replace("<meta/>", "<meta/><track/>"), 'export it as "CVAT for images"'),
        ("p.json", studio("brushlabels", {"rle": [1]}), "brush masks"),
    ],
)
def test_what_cannot_be_used_is_an_error_that_names_it(tmp_path, file, values, says):
    picture(tmp_path / "a.png")
    write(tmp_path / file, values)
    with pytest.raises(InputError, match=says):
        only(tmp_path)


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("a.json", labelme({"label": "cell", "shape_type": "point", "points": [[1, 2]]})),
        ("v.json", via({"name": "point", "cx": 1, "cy": 2})),
        ("c.xml", cvat('<points label="a" points="1,2"/>')),
        ("p.json", studio("keypointlabels", {"x": 1, "y": 2})),
    ],
)
def test_points_are_left_out_and_reported(tmp_path, file, values):
    picture(tmp_path / "a.png")
    write(tmp_path / file, values)
    reports = []
    _, loaded = only(tmp_path, reports.append)
    assert not len(loaded.instances)
    assert any("left out: a" in report.problem for report in reports)


def test_the_second_annotation_of_a_task_is_reported(tmp_path):
    picture(tmp_path / "a.png")
    tasks = studio("polygonlabels", {"points": percent(CORNERS)})
    tasks[0]["annotations"] *= 2
    write(tmp_path / "p.json", tasks)
    reports = []
    assert len(only(tmp_path, reports.append)[1].instances) == 1
    assert any("2 annotations; the first is used" in report.problem for report in reports)


def test_cvat_yolo_has_its_texts_beside_the_pictures(tmp_path):
    for part, stem in (("train", "a"), ("train", "b"), ("valid", "a"), ("test", "c")):
        folder = tmp_path / f"obj_{part}_data"
        picture(folder / f"{stem}.png")
        write(
            folder / f"{stem}.txt", "" if stem == "b" else f"1 {22 / COLUMNS} {14 / ROWS} {24 / COLUMNS} {12 / ROWS}\n"
        )
        with (tmp_path / f"{part}.txt").open("a") as lines:
            lines.write(f"data/obj_{part}_data/{stem}.png\n")
    write(tmp_path / "obj.data", "classes = 2\nnames = data/obj.names\n" + "".join(
        f"{part} = data/{part}.txt\n" for part in ("train", "valid", "test")))  # fmt: skip
    write(tmp_path / "obj.names", "dust\ncell\n")
    data = open_dataset(tmp_path)
    assert data.format == "cvat_yolo"
    assert data.splits == ({"train": ("obj_train_data_a", "b"), "val": ("obj_valid_data_a",), "test": ("c",)},)
    for case in data.cases:
        objects = read_case(case, data).instances
        assert len(objects) == (case.id != "b")
        np.testing.assert_allclose(objects.boxes, np.array([BOX] * len(objects)).reshape(-1, 2, 2), atol=1e-4)
        assert [data.classes[label] for label in objects.labels] == ["cell"] * len(objects)
    (tmp_path / "obj_train_data" / "b.txt").unlink()
    with pytest.raises(InputError, match="the image has no annotation"):
        open_dataset(tmp_path)


def test_files_of_other_kinds_are_no_annotations_of_these_layouts(tmp_path):
    picture(tmp_path / "a.png")
    write(tmp_path / "a.json", {"other": 1})
    write(tmp_path / "b.xml", "<plist/>")
    write(tmp_path / "c.csv", "one,two\n1,2\n")
    with pytest.raises(ValueError, match="not a data set in a layout that Boxel knows"):
        open_dataset(Path(tmp_path))

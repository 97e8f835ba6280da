"""Boxes of tables: centres, sides, decimals and sizes are read as meant, or refused with their line."""

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.io import write_image
from boxel.types import Geometry, Image

from .test_contradictions import outcome, picture, said, text


def boxes(root, head, *rows, names="abcdefgh"):
    """A table of the images a, b ... of 40 x 60 pixels."""
    for name in names[: len(rows)]:
        picture(root / f"{name}.png")
    between = ";" if ";" in head else ","
    lines = [f"file{between}{head}", *(f"{n}.png{between}{row}" for n, row in zip(names, rows, strict=False))]
    text(root / "boxes.csv", "\n".join(lines) + "\n")
    return root


def corners(root, **options):
    dataset = open_dataset(root, **options)
    return [read_case(case, dataset).instances.boxes.round(3).tolist() for case in dataset.cases]


@pytest.mark.parametrize(
    "head", ["cx,cy,w,h", "x_center,y_center,width,height", "CenterX,CenterY,W,H", "xc,yc,Breite,Höhe"]
)
def test_a_box_may_be_given_by_its_centre_and_sides(tmp_path, head):
    assert corners(boxes(tmp_path, head, "14,9,12,8")) == [[[[5, 8], [13, 20]]]]


@pytest.mark.parametrize(("head", "unit"), [("cx,cy,cz,w,h,d", "voxel"), ("cx_mm,cy_mm,cz_mm,w_mm,h_mm,d_mm", "mm")])
def test_a_box_in_3d_may_be_given_by_its_centre_and_sides(tmp_path, head, unit):
    geometry = Geometry.plain((12, 32, 40), (2.0, 2.0, 2.0))
    write_image(tmp_path / "a.mha", Image(np.zeros((1, 12, 32, 40), np.uint8), geometry))
    row = "18,14,6,12,8,4" if unit == "voxel" else "35,27,11,24,16,8"
    text(tmp_path / "boxes.csv", f"file,{head}\na.mha,{row}\n")
    assert corners(tmp_path) == [[[[4, 10, 12], [8, 18, 24]]]]


def test_german_sides_are_sides(tmp_path):
    assert corners(boxes(tmp_path, "x;y;Breite;Höhe", "8;5;12;8")) == [[[[5, 8], [13, 20]]]]


@pytest.mark.parametrize(
    ("head", "rows"),
    [
        ("x1,y1,x2,y2", ("0.13,0.125,0.33,0.325", "0,0,1,0.5")),
        ("x,y,w,h", ("0.13,0.125,0.2,0.2", "0,0,1,1")),
        ("cx,cy,w,h", ("8,5,12,8", "0.23,0.225,0.2,0.2")),
    ],
)
def test_boxes_in_fractions_of_the_image_are_an_error(tmp_path, head, rows):
    line = 3 if rows[0].startswith("8") else 2
    problems = outcome(boxes(tmp_path, head, *rows), "table")[1]
    assert said(problems, "error", f"line {line}", "between 0 and 1", "write pixels")


def test_a_box_of_the_first_pixel_is_not_taken_for_fractions(tmp_path):
    assert corners(boxes(tmp_path, "x1,y1,x2,y2", "0,0,1,1", "0.5,0.5,7,9")) == [
        [[[0, 0], [1, 1]]], [[[0.5, 0.5], [9, 7]]]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("head", "rows", "words"),
    [
        ("x1;y1;x2;y2", ("950;5;1.100;13",), ("line 2", "x2 is 1.100", "write 1100")),
        ("x1,y1,x2,y2", ("8,5,20,13", "1.050,5,1.100,13"), ("line 3", "x1 is 1.050", "write 1050")),
        ("x1;y1;x2;y2", ("8,5;5;20;13", "1.100;5;20;13"), ("line 3", "x1 is 1.100", "write 1100")),
        (
            "x,y,width,height",
            ("900,5,10,10", "1.100,5,10,10", "1.200,5,10,10", "2.300,5,10,10"),
            ("line 3", "x is 1.100", "write 1100"),
        ),
    ],
)
def test_points_between_thousands_are_an_error(tmp_path, head, rows, words):
    assert said(outcome(boxes(tmp_path, head, *rows), "table")[1], "error", *words)


@pytest.mark.parametrize(
    ("head", "row", "expected"),
    [
        ("x1,y1,x2,y2", "1.250,5,20,13", [[5, 1.25], [13, 20]]),
        ("x1,y1,x2,y2", "1.250,5.000,20.125,13.500", [[5, 1.25], [13.5, 20.125]]),
        ("x1;y1;x2;y2", "1.250;5;20;13", [[5, 1.25], [13, 20]]),
        ("x1;y1;x2;y2", "1,250;5;20;13", [[5, 1.25], [13, 20]]),
        ("x1;y1;x2;y2", "1,25;5,5;20,125;13", [[5.5, 1.25], [13, 20.125]]),
        ("x,y,w,h", "1.250,5,12,8", [[5, 1.25], [13, 13.25]]),
        ("x1,y1,x2,y2", "8.125,5.250,8.875,6.750", [[5.25, 8.125], [6.75, 8.875]]),
    ],
)
def test_three_decimals_are_decimals(tmp_path, head, row, expected):
    assert corners(boxes(tmp_path, head, row)) == [[expected]]


@pytest.mark.parametrize(
    ("head", "cells"),
    [
        ("img_w,img_h", "{1},{0}"), ("ImageWidth,image_height", "{1},{0}"), ("orig_width,orig_height", "{1},{0}"),
        ("rows,cols", "{0},{1}"), ("size_x,size_y", "{1},{0}"), ("w,h", "{1},{0}"), ("Breite,Höhe", "{1},{0}"),
        ("Bildbreite,Bildhöhe", "{1},{0}"), ("image_size", "{1}x{0}"), ("Resolution", "{1} X {0}"),
    ],
)  # fmt: skip
def test_a_size_in_a_table_is_compared_with_the_image_however_it_is_called(tmp_path, head, cells):
    boxes(tmp_path, f"x1,y1,x2,y2,{head}", f"8,5,20,13,{cells.format(40, 60)}")
    assert corners(tmp_path) == [[[[5, 8], [13, 20]]]]
    boxes(tmp_path, f"x1,y1,x2,y2,{head}", f"8,5,20,13,{cells.format(80, 120)}")
    with pytest.raises(ValueError, match=r"\(80, 120\).*\(40, 60\)"):
        corners(tmp_path)


@pytest.mark.parametrize(
    ("head", "side"), [("image_width", "width"), ("img_h", "height"), ("width", "width"), ("Höhe", "height")]
)
def test_one_side_of_the_image_alone_is_reported(tmp_path, head, side):
    boxes(tmp_path, f"x1,y1,x2,y2,{head}", "8,5,20,13,120")
    assert said(outcome(tmp_path, "table")[1], "warning", f"column {head} gives only the {side} of the images")


@pytest.mark.parametrize(
    ("head", "cells"),
    [("width,height", "12,8"), ("w,h", "12,8"), ("width", "12"), ("height", "8"), ("width,height", "6.5,4.1"),
     ("width", "wide"), ("width", "na")],
)  # fmt: skip
def test_sides_of_boxes_beside_their_corners_are_not_taken_for_the_size_of_the_image(tmp_path, head, cells):
    boxes(tmp_path, f"x1,y1,x2,y2,{head}", f"8,5,20,13,{cells}")
    assert corners(tmp_path) == [[[[5, 8], [13, 20]]]]
    assert outcome(tmp_path, "table")[1] == []


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("kein Befund,,,", ("line 3: x1 is 'kein Befund'", "leave the cells of the box empty")),
        ("8,5,20,", ("line 3: y2 is missing", "leave all cells of the box empty")),
        ("8,5,inf,13", ("line 3: x2 is 'inf'", "correct it")),
        ('"1.100,5",5,20,13', ("line 3: x1 is '1.100,5'", "write it without points or blanks between thousands")),
    ],
)
def test_a_position_that_is_no_number_is_an_error_with_its_line(tmp_path, row, words):
    assert said(outcome(boxes(tmp_path, "x1,y1,x2,y2", "8,5,20,13", row), "table")[1], "error", *words)

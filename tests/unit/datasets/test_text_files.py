"""Tables and JSON files as other programs write them: encodings, and the lines that messages name."""

import json

import pytest

from boxel.datasets.formats import open_dataset
from boxel.datasets.problems import InputError
from boxel.inputs.tables import read_table

from .test_drawing_tools import COLUMNS, CORNERS, ROWS, labelme, percent, picture, studio, write
from .test_silent_faults import coco, monai

NAME = "Läsion"


def native(root):
    head = {"dim": 2, "labels": {"0": NAME}, "modalities": {"0": "grey"}}
    picture(root / "imagesTr" / "a_0000.png")
    box = {"label": 0, "lower": [8, 10], "upper": [20, 34]}
    write(root / "labelsTr" / "a.json", {"boxes": [box]})
    write(root / "dataset.json", json.dumps(head, ensure_ascii=False))


def label_studio(root):
    values = studio("polygonlabels", {"points": percent(CORNERS)})
    values[0]["annotations"][0]["result"][0]["value"]["polygonlabels"] = [NAME]
    write(root / "a.json", json.dumps(values, ensure_ascii=False))


def via(root):
    shape = {"name": "rect", "x": 10, "y": 8, "width": 24, "height": 12}
    region = {"shape_attributes": shape, "region_attributes": {"type": NAME}}
    write(root / "a.json", json.dumps({"a": {"filename": "a.png", "regions": [region]}}, ensure_ascii=False))


def label_me(root):
    drawn = {"label": NAME, "shape_type": "polygon", "points": CORNERS}
    write(root / "a.json", json.dumps(labelme(drawn), ensure_ascii=False))


LAYOUTS = {
    "native": (native, "dataset.json"),
    "label_studio": (label_studio, "a.json"),
    "via": (via, "a.json"),
    "labelme": (label_me, "a.json"),
    "coco": (lambda root: coco(root, {"a.png": (8, 10, 20, 34)}, (ROWS, COLUMNS), label=NAME), "annotations.json"),
    "monai": (lambda root: monai(root, {"a.png": (8, 10, 20, 34)}, label=NAME), "list.json"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_json_in_windows_1252_is_read_with_a_note(tmp_path, layout):
    make, name = LAYOUTS[layout]
    if layout != "native":
        picture(tmp_path / "a.png")
    make(tmp_path)
    file = tmp_path / name
    file.write_bytes(file.read_text("utf-8").encode("cp1252"))
    problems = []
    options = ["frame=voxel"] if layout == "monai" else []
    dataset = open_dataset(tmp_path, problems.append, options=options)
    assert (dataset.format, dataset.classes) == (layout, (NAME,))
    (note,) = problems
    assert (note.severity, note.file, note.problem) == ("note", file, "not UTF-8; read as Windows-1252")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a,b\n1,2\n3,4\n", [2, 3]),
        ("a,b\n\n1,2\n  \n\n3,4\n", [3, 6]),
        ("\n\na,b\n1,2\n,\n3,4\n", [4, 6]),
        ("sep=;\na;b\n1;2\n\n3;4\n", [3, 5]),
        ("\nsep=;\n\na;b\n1;2\n\n3;4\n", [5, 7]),
    ],
)
def test_rows_of_a_table_know_their_lines_in_the_file(tmp_path, text, lines):
    write(tmp_path / "a.csv", text)
    rows = read_table(tmp_path / "a.csv")
    assert [dict(row) for row in rows] == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert [row.line for row in rows] == lines


@pytest.mark.parametrize("header", [["file,x1,y1,x2,y2,label"], []])
def test_a_message_names_the_line_of_the_file_after_blank_ones(tmp_path, header):
    picture(tmp_path / "a.png")
    lines = [*header, "a.png,10,8,34,20,cell", "", "", "a.png,wrong,8,34,20,cell"]
    write(tmp_path / "boxes.csv", "\n".join(lines) + "\n")
    with pytest.raises(InputError, match=rf"boxes\.csv: line {len(lines)}: x1 is .*wrong"):
        open_dataset(tmp_path)

"""In every place of an annotation file of each layout, a wrong value leads to a message that names a file."""

import csv
import io
import json
from xml.etree import ElementTree

import pytest
import yaml

from boxel.datasets.quality.check import examine
from unit.odd_values import ODD, places, put

from . import test_text_files as json_layouts
from .test_contradictions import CVAT_BOX, cvat
from .test_drawing_tools import picture
from .test_pictures import write_kaggle, write_voc, write_yolo
from .test_tables import write_deeplesion, write_luna

JSON = ["label_studio", "via", "labelme"]
XML = {
    "voc": (write_voc, "Annotations"),
    "cvat": (lambda root, rng: cvat(root, CVAT_BOX.format("cell")), "."),
}
TABLES = {"table": write_luna, "deeplesion": write_deeplesion, "kaggle_dsb2018": write_kaggle}
TEXTS = ["", "x", "nan", "-1", "1e400", "9" * 400, "é", '"', "1,5"]


def answered(root, name, what):
    """Findings or an error, and those that are errors name a file."""
    try:
        messages = [str(finding) for finding in examine(root, format=name, workers=0).findings]
    except ValueError as error:
        messages = [str(error)]
    assert all(str(root) in message and len(message) < 3000 for message in messages), (what, messages)


@pytest.mark.parametrize("name", JSON)
@pytest.mark.filterwarnings("ignore")
def test_a_value_of_a_json(name, tmp_path):
    make, file_name = json_layouts.LAYOUTS[name]
    picture(tmp_path / "a.png")
    make(tmp_path)
    file = tmp_path / file_name
    text = file.read_text("utf-8")
    for place in places(json.loads(text)):
        for value in ODD:
            file.write_text(json.dumps(put(json.loads(text), place, value)))
            answered(tmp_path, name, (place, value))


@pytest.mark.parametrize("name", XML)
@pytest.mark.filterwarnings("ignore")
def test_a_text_an_attribute_or_a_tag_of_an_xml(name, tmp_path, rng):
    make, folder = XML[name]
    make(tmp_path, rng)
    file = next((tmp_path / folder).glob("*.xml"))
    whole = file.read_text()
    for number in range(len(list(ElementTree.fromstring(whole).iter()))):
        for change in range(3):
            for text in TEXTS:
                root = ElementTree.fromstring(whole)
                node = list(root.iter())[number]
                if change == 0:
                    node.text = text
                elif change == 1:
                    node.attrib = dict.fromkeys(node.attrib, text)
                else:
                    node.tag = "other"
                file.write_bytes(ElementTree.tostring(root, "utf-8"))
                answered(tmp_path, name, (node.tag, change, text))


@pytest.mark.filterwarnings("ignore")
def test_a_value_of_a_yaml(tmp_path, rng):
    write_yolo(tmp_path, rng, "0 0.5 0.5 0.2 0.2")
    file = tmp_path / "data.yaml"
    values = yaml.safe_load(file.read_text())
    for place in places(values):
        for value in ODD:
            file.write_text(yaml.safe_dump(put(values, place, value)))
            answered(tmp_path, "yolo", (place, value))


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.filterwarnings("ignore")
def test_a_cell_of_a_table(name, tmp_path, rng):
    TABLES[name](tmp_path, rng)
    for file in tmp_path.rglob("*.csv"):
        text = file.read_text()
        rows = list(csv.reader(io.StringIO(text)))
        for row in range(min(len(rows), 3)):
            for column in range(len(rows[0])):
                for cell in TEXTS:
                    changed = [list(one) for one in rows]
                    changed[row][column] = cell
                    out = io.StringIO()
                    csv.writer(out).writerows(changed)
                    file.write_text(out.getvalue())
                    answered(tmp_path, name, (file.name, row, column, cell))
        file.write_text(text)

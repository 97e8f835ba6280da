"""Names of classes, cases and files are data: in no output of any verb do they steer, run, escape or get lost."""

import csv
import io
import json

import numpy as np
import pytest

from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.escaping import printable
from boxel.export.boxel_json import write_detections
from boxel.types import Detections, Geometry, Image
from tests import forks
from tests.end_to_end.commands import RECIPE, set_words

CLASSES = [
    "[red]", "\x1b[2J", "<script>alert(1)</script>", "=1+1", "../../x", "new\nline", "long " * 60, "\u202edlo", "CON",
    "|pipe|", "-5", "@SUM(A1)", "+1", "\tt", "'=1", "{{ 7 * 7 }}",
]  # fmt: skip
CASES = ["[red]", "<script>alert(1)<", "=1+1", "CON", "$(touch x)", "long" * 40, "-b", "a'b\"c"]
PATIENTS = ["Jane \x1b[2J Roe", "Roe^John"]
STEERING = ("\x1b", "\x07", "\u202e")
FORMATS = ["boxel", "mitk", "slicer", "csv", "coco", "picai", "grand-challenge", "nifti", "preview"]
NEED_DICOM = ["dicom-sr", "dicom-seg", "dicom-rtstruct"]


def run(*words, code=0):
    """The verb; what it says is one line for each message, and steers no terminal."""
    done = forks.run(*words)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    assert not [mark for mark in (*STEERING, "Jane", "Roe") if mark in said], said
    assert not [line for line in said.splitlines() if line.startswith("line")], said
    return said


def write_data(root, cases):
    rng = np.random.default_rng(0)
    for number, case in enumerate(cases):
        label_map = np.zeros((48, 48), np.uint8)
        for k in range(len(CLASSES)):
            row, column = 12 * (k // 4) + 2, 12 * (k % 4) + 2
            label_map[row : row + 7, column : column + 7] = k + 1
        array = rng.normal(size=(1, 48, 48)) + 5 * (label_map > 0)
        image = Image(array.astype(np.float32), Geometry.plain((48, 48), (1.0, 1.0)))
        labels = {k + 1: k for k in range(len(CLASSES))}
        write_case(root, case, image, label_map, labels, split="test" if number > 5 else "train")
    groups = {case: PATIENTS[number > 5] + str(number // 2) for number, case in enumerate(cases)}
    write_dataset(root, "=cmd()", 2, CLASSES, ["<b>CT</b>"], groups)


@pytest.fixture(scope="module")
def way(tmp_path_factory):
    root = tmp_path_factory.mktemp("deep") / "a" / "b"
    write_data(root / "data", CASES)
    out = {name: root / name for name in ("work", "run", "predictions", "evaluation", "page.html", "pages", "fixed")}
    said = run("check", root / "data", "--list", "--preview", 2, "--html", "--out", out["pages"], "--fix", out["fixed"])
    assert "\\x1b[2J" in said
    run("prepare", root / "data", "--out", out["work"], *RECIPE)
    run("train", out["work"], "--out", out["run"], *RECIPE, *set_words(["train.steps=1"]))
    run("predict", out["run"], root / "data", "--out", out["predictions"])
    for file in out["predictions"].glob("*.json"):  # one detection of each class
        content = json.loads(file.read_text())
        boxes = np.array([[[12 * (k // 4) + 2.0, 12 * (k % 4) + 2.0]] * 2 for k in range(len(CLASSES))])
        boxes[:, 1] += 7
        found = Detections(boxes, np.linspace(0.9, 0.1, len(CLASSES)), np.arange(len(CLASSES)))
        geometry = Geometry.plain((48, 48), (1.0, 1.0))
        write_detections(
            file, Detections(found.boxes, found.scores, found.labels, geometry=geometry), content["case"], CLASSES,
            image_files=content["images"],
        )  # fmt: skip
    run("evaluate", out["predictions"], root / "data", "--out", out["evaluation"], "--resamples", 10)
    words = ("--predictions", out["predictions"], "--dataset", root / "data")
    run("report", out["run"], *words, "--out", out["page.html"])
    run("models", "--recipe", out["run"] / "config.json")
    return root


def test_nothing_is_written_outside_and_pages_hold_no_markup_of_names(way):
    assert not [path for path in way.parent.parent.rglob("*") if path.name == "x"]
    pages = [way / "page.html", way / "pages" / "index.html"]
    for page in pages:
        content = page.read_bytes()
        assert b"<script>alert" not in content
        assert b"&lt;script&gt;alert" in content
        assert b"{{ 7 * 7 }}" in content
        assert not [mark for mark in STEERING if mark.encode() in content]


def test_no_output_names_a_patient_unless_that_is_asked_for(way, tmp_path):
    for folder in ("work", "run", "predictions", "evaluation", "pages", "fixed"):
        for file in (way / folder).rglob("*"):
            assert not file.is_file() or b"Roe" not in file.read_bytes(), file
    groups = json.loads((way / "fixed" / "dataset.json").read_text())["groups"]
    stored = {case: json.loads((way / "work" / "cases" / f"{case}.json").read_text())["group"] for case in CASES}
    for names in (groups, stored):
        assert [names[case] for case in CASES[::2]] == [names[case] for case in CASES[1::2]]
        assert len(set(names.values())) == 4
    words = ("--out", tmp_path / "evaluation", "--resamples", 0, "--keep-identifiers")
    run("evaluate", way / "predictions", way / "data", *words)
    assert "Roe^John3" in (tmp_path / "evaluation" / "per_case.csv").read_text()


@pytest.mark.parametrize("file", ["per_case.csv", "per_object.csv"])
def test_no_cell_of_a_table_is_a_formula(way, file):
    rows = list(csv.DictReader(io.StringIO((way / "evaluation" / file).read_text())))
    assert {"'=1+1", "'-5", "'@SUM(A1)", "'+1", "\\tt", "''=1", "[red]"} <= {row["class"] for row in rows}
    for row in rows:
        assert not [cell for name in ("case", "group", "class") if (cell := row[name])[:1] in tuple("=+-@\t\r")]
        assert not row.get("score") or float(row["score"]) <= 1


@pytest.mark.parametrize("to", [*FORMATS, *NEED_DICOM])
def test_every_format_has_the_names_and_stays_in_its_folder(way, tmp_path, to):
    out = tmp_path / "a" / "b" / "out"
    out.parent.mkdir(parents=True)
    run("convert", way / "predictions", "--to", to, "--out", out, code=2 if to in NEED_DICOM else 0)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"b"}
    if to in ("boxel", "csv", "coco", "slicer", "nifti"):  # picai has folders of classes
        run("convert", out, "--to", "boxel", "--out", tmp_path / "back", "--from", to, "--images", way / "data")
        back = json.loads(next((tmp_path / "back").glob("=1+1.json")).read_text())
        names = {printable(name).strip() for name in CLASSES} if to == "csv" else set(CLASSES)
        assert {entry["class"] for entry in back["detections"]} == names


@pytest.mark.parametrize("name", ["new\nline", "\x1b[2J", "\u202edlo", "x" * 230])
def test_a_case_whose_name_cannot_safely_name_files_is_refused(tmp_path, name):
    write_data(tmp_path / "data", ["a", "b", "c"])
    for folder, suffix in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz"), ("labelsTr", ".json")):
        (tmp_path / "data" / folder / f"a{suffix}").rename(tmp_path / "data" / folder / f"{name}{suffix}")
    for words in (("check", tmp_path / "data"), ("prepare", tmp_path / "data", "--out", tmp_path / "work")):
        said = run(*words, code=2)
        assert "cannot be a file name; rename it without /" in said or "not an image name" in said

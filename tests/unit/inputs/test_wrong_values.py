"""In every place of every text file of predictions, runs and experiments, a wrong value leads to a message."""

import contextlib
import json

import pytest

from boxel.api.run import RunSplit
from boxel.evaluation.luna16 import read_marks, read_tables
from boxel.experiments.cell import read_cost
from boxel.experiments.registry import Chosen
from boxel.export import DatasetInfo, get_format
from boxel.output_folder import RECORD, claimed, wanted_cases
from boxel.recipes import get_recipe
from boxel.training.checkpoints import read_ranking
from boxel.training.log import read_log
from boxel.types import Task
from unit.builders import make_task
from unit.export.examples import CLASSES, grid, whole_voxels
from unit.odd_values import ODD, places, put

DETECTIONS = {"1": {"score": 0.9, "class": "benign"}, "2": {"score": 0.5, "label": 1}}


def predictions(name):
    """A writer and a reader of the predictions of a case in a format."""
    form, geometry = get_format(name), grid(3, "plain", (16, 25, 31))
    cases = ("a",)

    def write(folder):
        if name != "label-maps":
            form.writer(folder, [whole_voxels(geometry, case) for case in cases])
            return
        get_format("nifti").writer(folder, [whole_voxels(geometry, case) for case in cases])
        for case in cases:
            (folder / f"{case}_boxes.nii.gz").rename(folder / f"{case}.nii.gz")
            (folder / f"{case}_boxes.json").unlink()
            (folder / f"{case}.json").write_text(json.dumps(DETECTIONS))

    def read(folder):
        assert form.reader(folder, DatasetInfo(CLASSES, dict.fromkeys(cases, geometry)))

    return write, read


def write_run(folder):
    task = make_task(2)
    get_recipe("retina_unet_small").save(folder / "config.json")
    task.save(folder / "task.json")
    RunSplit(work="w", fold=0, train=("a",), val=("b",), test=()).save(folder / "split.json")
    checkpoints = [{"file": "step_000001.safetensors", "step": 1, "score": 0.5}]
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "ranking.json").write_text(json.dumps(checkpoints))


def read_run(folder):
    type(get_recipe("retina_unet_small")).load(folder / "config.json")
    Task.load(folder / "task.json")
    RunSplit.load(folder / "split.json")
    read_ranking(folder)


def write_experiment(folder):
    cost = {"seconds": 3.5, "metrics": {"AP": 0.5}, "peak_bytes": 7, "steps": 4, "environment": {"python": "3"}}
    (folder / "done.json").write_text(json.dumps(cost))
    with claimed(folder / "out", "predict", {"RUN": "r"}, cases=["a"]):
        (folder / "out" / "a.json").touch()
    record = folder / "out" / RECORD
    record.rename(folder / "record.json")


def read_experiment(folder):
    read_cost(folder)
    (folder / "record.json").rename(folder / "out" / RECORD)
    try:
        wanted_cases(folder / "out")
    except ValueError as error:
        raise ValueError(str(error).replace(RECORD, "record.json")) from None
    finally:
        (folder / "out" / RECORD).rename(folder / "record.json")


KINDS = {name: predictions(name) for name in
         ("boxel", "coco", "csv", "grand-challenge", "label-maps", "mitk", "nifti", "slicer")}  # fmt: skip
KINDS |= {"run": (write_run, read_run), "experiment": (write_experiment, read_experiment)}


@pytest.fixture(params=KINDS)
def kind(request, tmp_path):
    write, read = KINDS[request.param]
    write(tmp_path)
    read(tmp_path)
    return read


def refuses_or_reads(read, folder, what):
    """Whatever is wrong, the reader returns or names a file there."""
    message = ""
    try:
        read(folder)
    except ValueError as error:
        message = str(error)
    names = [path.name for path in folder.rglob("*") if path.suffix in (".json", ".csv")]
    assert not message or any(name in message for name in names), (what, message)
    assert len(message) < 2000, what


@pytest.mark.filterwarnings("ignore:.*boxes of this format lie in one plane")
def test_a_wrong_value_anywhere_in_a_json_is_read_or_refused_by_file(kind, tmp_path):
    for file in sorted(tmp_path.rglob("*.json")):
        text = file.read_text()
        if not text:
            continue
        for place in places(json.loads(text)):
            for value in ODD if len(text) < 5000 else ODD[::4]:
                file.write_text(json.dumps(put(json.loads(text), place, value)))
                refuses_or_reads(kind, tmp_path, (file.name, place, value))
        file.write_text(text)


FAULTS = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "wrong bytes": lambda content: content[:30] + b"\xdd\x81" + content[30:],
    "zeros": lambda content: bytes(len(content)),
    "deep": lambda content: b"[" * 900 + b"]" * 900,
    "half a character": lambda content: content.replace(b'"', b'"\\ud800', 3),
    "of 400 digits": lambda content: content.replace(b"0", b"1" * 400),
    "not a number": lambda content: content.replace(b"0.", b"NaN"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.filterwarnings("ignore:.*boxes of this format lie in one plane")
def test_a_damaged_text_is_refused_by_file(kind, fault, tmp_path):
    for file in [*tmp_path.rglob("*.json"), *tmp_path.rglob("*.csv")]:
        content = file.read_bytes()
        file.write_bytes(FAULTS[fault](content))
        refuses_or_reads(kind, tmp_path, (file.name, fault))
        file.write_bytes(content)


@pytest.mark.parametrize("cell", ["", "x", "nan", "1e400", "9" * 400, '"', "=1", "\x00", "é", "-1"])
def test_a_wrong_cell_of_a_table_is_refused_with_its_line_and_column(cell, tmp_path):
    write, read = KINDS["csv"]
    write(tmp_path)
    file = tmp_path / "detections.csv"
    rows = [line.split(",") for line in file.read_text().splitlines()]
    for row in range(len(rows)):
        for column in range(len(rows[0])):
            changed = [list(one) for one in rows]
            changed[row][column] = cell
            file.write_text("\n".join(map(",".join, changed)))
            refuses_or_reads(read, tmp_path, (row, column))
    changed = [list(one) for one in rows]
    changed[2][3] = "wide"
    file.write_text("\n".join(map(",".join, changed)))
    with pytest.raises(ValueError, match=rf"detections\.csv: line 3 .*{rows[0][3]} is 'wide'"):
        read(tmp_path)


@pytest.mark.parametrize("cell", ["", "x", "nan", "1e400", "9" * 400, '"', "\x00"])
def test_a_wrong_cell_of_the_tables_of_luna16_is_refused(cell, tmp_path):
    head = "seriesuid,coordX,coordY,coordZ,"
    tables = {
        "annotations.csv": f"{head}diameter_mm\n1.2,18,14,12,8\n",
        "annotations_excluded.csv": f"{head}diameter_mm\n1.2,18,14,12,-1\n",
        "seriesuids.csv": "1.2\n1.3\n",
        "marks.csv": f"{head}probability\n1.2,18,14,12,0.9\n",
    }
    for name, text in tables.items():
        (tmp_path / name).write_text(text)

    def read(folder):
        read_tables(folder, list(read_marks(folder / "marks.csv")))

    read(tmp_path)
    for name, text in tables.items():
        (tmp_path / name).write_bytes(text.replace("1.2", "1.\xff").encode("cp1252"))
        with pytest.raises(ValueError, match=rf"{name}: byte 0xff in line [12], column 3 is no text"):
            read(tmp_path)
        for old in ("18", "coordY", "1.2"):
            (tmp_path / name).write_text(text.replace(old, cell))
            refuses_or_reads(read, tmp_path, (name, old))
        (tmp_path / name).write_text(text)


def test_a_cell_may_be_of_any_length(tmp_path):
    write, read = KINDS["csv"]
    write(tmp_path)
    file = tmp_path / "detections.csv"
    file.write_text(file.read_text().replace("b,", "b" * 200_000 + ","))
    read(tmp_path)


def test_what_is_wrong_is_said_with_its_place_and_what_to_do(tmp_path):
    write, read = KINDS["mitk"]
    write(tmp_path)
    record = json.loads((tmp_path / "a.json").read_text())
    record["ROIs"][1]["Min"] = [1, 2, "far"]
    (tmp_path / "a.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"a\.json: ROIs\[1\]\.Min\[2\] must be a number \(given: far\); see docs"):
        read(tmp_path)


def test_a_log_of_a_training_with_damaged_lines_is_read(tmp_path):
    file = tmp_path / "metrics.jsonl"
    lines = [{"step": 1, "seconds": 2.0}, None, 5, [], {"step": "x"}, {"step": 2}, {"step": 10**400}]
    file.write_text("\n".join(map(json.dumps, lines[:-1])))
    with contextlib.suppress(ValueError):  # Python writes no such number
        file.write_text(file.read_text() + "\n" + '{"step": ' + "1" * 5000 + "}")
    assert [row["seconds"] for row in read_log(file)] == [2.0, 2.0]


def test_an_experiment_whose_record_is_anything_else_is_refused(tmp_path):
    for value in ODD:
        with pytest.raises(ValueError, match=r"experiment\.json"):
            Chosen.from_dict(value, str(tmp_path / "experiment.json"))

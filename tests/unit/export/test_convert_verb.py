"""`boxel convert`: where images come from, other sources than Boxel JSON, and what is said about bad input."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import boxel
from boxel.cli import app, main
from boxel.cli.console import warning_lines
from boxel.export import Prediction, get_format, list_formats, recognise, register_export
from boxel.io import write_image
from boxel.types import Detections, Image
from unit.export.examples import CLASSES, grid, predict, same

WRITTEN_IN_2D = [name for name, form in list_formats().items() if form.write and 2 in form.ndims]


@pytest.fixture
def predictions(tmp_path, ndim):
    """A folder with two cases, without and with detections, and the images in `images`."""
    for case, count in (("none", 0), ("some", 3)):
        prediction = predict(grid(ndim, "flipped"), count, case)
        get_format("boxel").write(tmp_path / "predictions", [prediction])
        image = Image(np.zeros((1, *prediction.geometry.shape), np.float32), prediction.geometry)
        write_image(tmp_path / "images" / f"{case}_0000.nii.gz", image)
    return tmp_path / "predictions"


def exit_code(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["boxel", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


@pytest.mark.filterwarnings("ignore:.*missing in the detection map")
@pytest.mark.parametrize("name", WRITTEN_IN_2D)
def test_every_format_is_written_from_boxel_json_which_is_still_recognised_above_it(predictions, tmp_path, name):
    written = boxel.convert(predictions, predictions / name, name, images=tmp_path / "images")
    assert written
    assert all(path.exists() for path in written)
    assert recognise(predictions).name == "boxel"


@pytest.mark.filterwarnings("ignore:.*missing in the detection map", "ignore:.*one voxel thick")
@pytest.mark.parametrize("name", [name for name in WRITTEN_IN_2D if get_format(name).read])
def test_every_format_is_recognised_and_converted_back(predictions, tmp_path, name):
    boxel.convert(predictions, tmp_path / name, name)
    assert recognise(tmp_path / name).name == name
    boxel.convert(tmp_path / name, tmp_path / "json", "boxel", images=tmp_path / "images", classes=CLASSES)
    detections = boxel.read_detections(tmp_path / "json" / "some.json")[1]
    expected = boxel.read_detections(predictions / "some.json")[1]
    best = [(round(float(d.scores.max()), 4), d.labels[d.scores.argmax()]) for d in (detections, expected)]
    assert best[0] == best[1]  # detections that overlap it may be lost, with a warning


def test_other_formats_are_read_too_with_the_geometry_of_the_images(predictions, tmp_path, ndim):
    boxel.convert(predictions, tmp_path / "csv", "csv")
    boxel.convert(
        tmp_path / "csv", tmp_path / "json", "boxel", source="csv", images=tmp_path / "images", classes=CLASSES
    )
    case, detections, classes = boxel.read_detections(tmp_path / "json" / "some.json")
    assert (case, classes) == ("some", CLASSES)
    same(detections, predict(grid(ndim, "flipped"), 3, "some").detections)
    assert detections.geometry.spacing == pytest.approx(grid(ndim, "flipped").spacing)


def test_low_scores_are_left_out_on_request(predictions, tmp_path, ndim):
    scores = np.sort(predict(grid(ndim, "flipped"), 3, "some").detections.scores)
    boxel.convert(predictions, tmp_path / "csv", "csv", min_score=float(scores[1]))
    lines = (tmp_path / "csv" / "detections.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["none", "some", "some"]


def test_the_verb_says_how_many_files_it_wrote(predictions, tmp_path, monkeypatch, capsys):
    assert exit_code(monkeypatch, "convert", predictions, "--to", "slicer", "--out", tmp_path / "s") in (0, None)
    assert "wrote 2 files" in capsys.readouterr().out


def test_a_warning_is_a_line_without_the_place_in_the_code(tmp_path):
    boxes = np.array([[[1, 1], [9, 9]], [[2, 2], [4, 4]]], np.float32)
    inside = Detections(boxes, np.array([0.9, 0.5], np.float32), np.zeros(2, int), grid(2, "plain"))
    boxel.write_detections(tmp_path / "p" / "a.json", inside, "a", ["lesion"])
    words = ["convert", tmp_path / "p", "--to", "picai", "--out", tmp_path / "maps"]
    result = subprocess.run(
        [sys.executable, "-m", "boxel", *map(str, words)], capture_output=True, text=True, check=True
    )
    assert result.stderr.startswith("boxel: warning: case 'a': 1 detection is missing")
    assert result.stderr.count("\n") == 1


def test_a_warning_is_shown_once(capsys):
    show = warning_lines()
    for text in ("a", "b", "a"):
        show(text)
    assert capsys.readouterr().err == "boxel: warning: a\nboxel: warning: b\n"


def test_the_help_names_every_format():
    boxel.register_export("my-own", lambda out, predictions: [], lambda path, info: [])
    text = CliRunner().invoke(app, ["convert", "--help"], env={"COLUMNS": "300"}).stdout
    to, source = (next(line for line in text.splitlines() if option in line) for option in ("--to", "--from"))
    for name, form in list_formats().items():
        assert (name in re.findall(r"[\w-]+", to)) == (form.write is not None)
        assert (name in re.findall(r"[\w-]+", source)) == (form.read is not None)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--to", "slcer"], "unknown format 'slcer'; did you mean 'slicer'"),
        (["--to", "csv", "--from", "preview"], "'preview' cannot be read; read one of boxel,"),
        (["--to", "nndetection"], "'nndetection' cannot be written; write one of boxel,"),
        (["--to", "csv", "--from", "coco"], "images.json: no such file"),
        (["--to", "dicom-sr"], "needs the DICOM series"),
        (["--to", "preview"], "needs the image.*--images"),
        (["--to", "preview", "--images", "nowhere"], "nowhere: no such file or folder"),
        (["--to", "preview", "--images", "other"], "no image of case 'none' in --images, only of strange; rename"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(predictions, tmp_path, monkeypatch, capsys, words, says):
    if "coco" in words:
        (predictions / "results.json").write_text("[]")
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "other" / "strange.nii.gz", Image(np.zeros((1, 4, 4), np.float32), grid(2, "plain", (4, 4))))
    assert exit_code(monkeypatch, "convert", predictions, "--out", tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(says, error)
    assert not (tmp_path / "out").exists()


def test_predictions_without_geometry_are_refused_by_formats_in_mm(tmp_path, monkeypatch, capsys):
    nowhere = Detections.empty(3)
    boxel.write_detections(tmp_path / "p" / "a.json", nowhere, "a", CLASSES)
    assert exit_code(monkeypatch, "convert", tmp_path / "p", "--to", "mitk", "--out", tmp_path / "o") == 2
    assert "case 'a': the predictions do not say where the image lies" in capsys.readouterr().err


def test_the_predictions_are_not_overwritten(predictions):
    with pytest.raises(ValueError, match=r"holds none\.json, which `boxel convert` did not write there"):
        boxel.convert(predictions, predictions, "mitk")
    with pytest.raises(ValueError, match="no such file"):
        boxel.convert(predictions / "gone", predictions / "out", "mitk")


def test_a_format_of_ones_own_is_registered_under_a_name(predictions, tmp_path):
    def write(out, predictions):
        out.mkdir(parents=True, exist_ok=True)
        for p in predictions:
            rows = [[box.tolist(), score, name] for _, box, score, name in p.ranking]
            (out / f"{p.case}.own.json").write_text(json.dumps([p.detections.boxes.shape[-1], rows]))
        return sorted(out.glob("*.own.json"))

    def read(path, info):
        predictions = []
        for file in sorted(path.glob("*.own.json")):
            ndim, rows = json.loads(file.read_text())
            detections = Detections(
                np.array([box for box, *_ in rows], np.float32).reshape(-1, 2, ndim),
                np.array([score for _, score, _ in rows], np.float32),
                np.array([info.classes.index(name) for *_, name in rows], np.int64),
            )
            predictions.append(Prediction(file.name.removesuffix(".own.json"), detections, info.classes))
        return predictions

    boxel.register_export("own", write, read, lambda path: any(path.glob("*.own.json")))
    boxel.convert(predictions, tmp_path / "own", "own")
    boxel.convert(tmp_path / "own", tmp_path / "back", "boxel", classes=CLASSES)
    back, expected = (boxel.read_detections(folder / "some.json")[1] for folder in (tmp_path / "back", predictions))
    same(back, expected)
    with pytest.raises(ValueError, match="registered already"):
        register_export("csv", write)


def test_the_guide_has_a_row_for_every_format():
    guide = Path(__file__).parents[3] / "docs" / "how_to" / "export.md"
    rows = re.findall(r"^\| `([\w-]+)` \|", guide.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(name for name, form in list_formats().items() if "boxel.export" in module(form))


def module(form):
    return (form.write or form.read).__module__


def test_predictions_that_were_interrupted_are_converted_with_a_warning(predictions, tmp_path):
    (predictions / ".boxel").write_text(
        json.dumps({"verb": "predict", "source": "", "job": {}, "cases": ["late", "none", "some"]})
    )
    with pytest.warns(UserWarning, match=r"1 of 3 images is missing \(late\); rerun the interrupted `boxel predict`"):
        boxel.convert(predictions, tmp_path / "csv", "csv")

"""The verbs as a user types them, on tiny data: results, kills and restarts, bad input."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from boxel import load
from boxel.io import read_image, read_label_map, same_grid, write_image
from boxel.types import Geometry
from tests.end_to_end.commands import RECIPE, boxel, contents, kill_when, losses, program, refused, set_words


@pytest.fixture(scope="module", params=[2, 3], ids=["2d", "3d"])
def way(request, tmp_path_factory) -> Path:
    """Toy data, prepared, trained, predicted, evaluated, without interruption."""
    root = tmp_path_factory.mktemp(f"way{request.param}")
    size = {2: 64, 3: 32}[request.param]
    sizes = ("--ndim", request.param, "--size", size, "--train", 6, "--val", 3, "--test", 4)
    boxel("toy", "--out", root / "data", *sizes)
    boxel("prepare", root / "data", "--out", root / "work", *RECIPE)
    boxel("train", root / "work", "--out", root / "run", *RECIPE)
    boxel("predict", root / "run", root / "data" / "imagesTs", "--out", root / "predictions")
    return root


def test_the_verbs_lead_from_images_to_metrics_and_a_page(way):
    assert "AP@0.10" in boxel("evaluate", way / "predictions", way / "data", "--out", way / "evaluation").stdout
    metrics = json.loads((way / "evaluation" / "metrics.json").read_text())
    assert metrics["num_images"] == 4
    assert metrics["num_objects"] == 4
    assert 0 <= metrics["mAP@0.10:0.50"] <= 1
    page = way / "page.html"
    boxel("report", way / "run", "--predictions", way / "predictions", "--dataset", way / "data", "--out", page)
    assert "http://" not in page.read_text().replace("http://www.w3.org", "")
    files = {path.name for path in (way / "run").iterdir()}
    assert {"config.json", "task.json", "environment.json", "split.json", "weights.safetensors"} <= files


def test_the_rules_of_the_evaluation_are_chosen_on_the_command_line(way, tmp_path):
    rules = ("--iou", 0.3, "--interpolation", "area", "--rule", "mdt", "--resamples", 0)
    boxel("evaluate", way / "predictions", way / "data", "--out", tmp_path, *rules)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    chosen = {"iou_thresholds": [0.3], "interpolation": "area", "rule": "mdt", "num_resamples": 0, "seed": 0}
    assert chosen.items() <= metrics["settings"].items()
    assert "AP@0.30" in metrics


def test_prediction_files_carry_voxels_and_millimetres(way):
    for path in (way / "predictions").glob("*.json"):
        record = json.loads(path.read_text())
        assert record["case"] == path.stem
        for detection in record["detections"]:
            assert len(detection["lower"]) == len(detection["centre_mm"]) == record["ndim"]


def test_predictions_are_written_in_the_formats_asked_for(way, tmp_path):
    shutil.copytree(way / "predictions", tmp_path / "out")
    formats = [word for name in ("csv", "nifti", "preview") for word in ("--to", name)]
    boxel("predict", way / "run", way / "data" / "imagesTs", "--out", tmp_path / "out", *formats)
    cases = [path.stem for path in (way / "predictions").glob("*.json")]
    assert all((tmp_path / "out" / "preview" / f"{case}.png").exists() for case in cases)
    assert all((tmp_path / "out" / "nifti" / f"{case}_boxes.nii.gz").exists() for case in cases)
    boxel("convert", way / "predictions", "--to", "csv", "--out", tmp_path / "csv")
    assert contents(tmp_path / "out" / "csv") == contents(tmp_path / "csv")
    boxel("evaluate", tmp_path / "out", way / "data", "--out", tmp_path / "evaluation", "--resamples", 0)


@pytest.fixture
def scans(way, tmp_path) -> Path:
    """Two test images: one turned and of half the spacing, and one in a format that knows no world."""
    image = read_image(way / "data" / "imagesTs" / "test_00000_0000.mha")
    geometry = image.geometry
    turned = replace(
        geometry,
        spacing=tuple(spacing / 2 for spacing in geometry.spacing),
        origin=tuple(range(3, 3 + len(geometry.shape))),
        direction=tuple(map(tuple, (-np.asarray(geometry.direction)).tolist())),
    )
    write_image(tmp_path / "scans" / "turned.nii.gz", replace(image, geometry=turned))
    write_image(tmp_path / "scans" / "plain.tif", replace(image, geometry=Geometry.plain(geometry.shape)))
    return tmp_path / "scans"


def test_a_segmentation_lies_on_the_grid_of_its_image_and_an_interrupted_one_continues(way, scans, tmp_path):
    out = tmp_path / "p"
    command = ("predict", way / "run", scans, "--out", out, "--to", "nifti", "--segmentation")
    boxel(*command)
    detector = load(way / "run", overrides=["predict.segmentation=true"])
    for path in (scans / "turned.nii.gz", scans / "plain.tif"):
        case = path.name.partition(".")[0]
        written = read_label_map(out / f"{case}_seg.nii.gz")
        assert not same_grid(written.geometry, read_image(path).geometry)
        assert (written.array == detector.segment(path)[1]).all()
        assert (read_label_map(out / "nifti" / f"{case}_seg.nii.gz").array == written.array).all()
        about = json.loads((out / f"{case}.json").read_text())["extra"]["segmentation"]
        assert about == {"file": f"{case}_seg.nii.gz", "values": {"0": "background", "1": "disc", "2": "donut"}}
    before = contents(out)
    (out / "plain_seg.nii.gz").unlink()
    boxel(*command)
    assert contents(out) == before
    refused(*command[:-1], says="predict.segmentation true instead of false; choose another folder")
    assert contents(out) == before


@pytest.mark.parametrize("way", [2], indirect=True, ids=["2d"])
def test_a_predicted_segmentation_is_evaluated_and_compared(way, tmp_path):
    p, data, protocol = tmp_path / "p", way / "data", ("--protocol", "segmentation", "--resamples", 20)
    boxel("predict", way / "run", data / "imagesTs", "--out", p, "--segmentation")
    assert "DSC/slices_with_object" in boxel("evaluate", p, data, "--out", tmp_path / "e", *protocol).stdout
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert metrics["num_images"] == metrics["num_objects"] == metrics["num_slices_with_object"] == 4
    same = json.loads(boxel("compare", p, p, data, *protocol, "--json").stdout)["metrics"]
    assert {(one["difference"], one["p"]) for one in same.values() if one["p"] is not None} == {(0, 1)}
    boxel("report", way / "run", "--predictions", p, "--dataset", data, "--out", tmp_path / "page.html")
    assert "DSC of each case" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("way", [2], indirect=True, ids=["2d"])
def test_a_verb_writes_into_no_folder_that_holds_something_else(way, scans, tmp_path):
    (scans / "turned_seg.nii.gz").write_bytes(b"by hand")
    shutil.copytree(way / "run", tmp_path / "run")
    shutil.copytree(way / "predictions", tmp_path / "p")
    (tmp_path / "page.html").write_text("<!DOCTYPE html>\n<html>mine</html>")
    before = contents(tmp_path)
    p, data, image = tmp_path / "p", way / "data", scans / "turned.nii.gz"
    verbs = {
        "predict": ("predict", way / "run", image),
        "evaluate": ("evaluate", p, data, "--resamples", 0),
        "convert": ("convert", p, "--to", "csv"),
        "consolidate": ("consolidate", p),
        "prepare": ("prepare", data, *RECIPE),
        "train": ("train", way / "work", *RECIPE),
        "toy": ("toy", "--train", 1, "--val", 0, "--test", 0),
        "check --fix": ("check", data),
        "check": ("check", data, "--preview", 1),
        "demo": ("demo", "--data", data),
        "experiment": ("experiment", "run", "six_models", "--data", data),
    }
    for verb, words in verbs.items():
        option = "--fix" if verb == "check --fix" else "--out"
        refused(*words, option, scans, says=f"plain.tif, which `boxel {verb}` did not write there")
    refused("predict", way / "run", image, "--out", tmp_path / "run", says="holds checkpoints, which")
    refused(*verbs["predict"], "--out", p, "--set", "predict.views=plane", says='views "identity" instead of "plane"')
    refused(*verbs["evaluate"], "--out", p, says="holds the output of `boxel predict`")
    refused("report", tmp_path / "run", "--out", tmp_path / "page.html", says="`boxel report` did not write it")
    refused("compare", p, p, data, "--out", p / "test_00000.json", says="`boxel compare` did not write it")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("way", [2], indirect=True, ids=["2d"])
def test_predictions_of_another_run_are_not_mixed_in(way, tmp_path):
    shutil.copytree(way / "predictions", tmp_path / "p")
    shutil.copytree(way / "run", tmp_path / "other")
    shutil.rmtree(tmp_path / "other" / "checkpoints")
    weights = tmp_path / "other" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    images = way / "data" / "imagesTs"
    words = ("predict", tmp_path / "other", images, "--out", tmp_path / "p")
    refused(*words, says=f"for the run {way / 'run'} with weights")
    # A run that was moved is the same run.
    shutil.copytree(way / "run", tmp_path / "moved")
    before = contents(tmp_path / "p")
    boxel("predict", tmp_path / "moved", images, "--out", tmp_path / "p")
    assert contents(tmp_path / "p") == before


def test_repeating_a_finished_verb_changes_nothing(way):
    before = contents(way / "work", "cases/*"), contents(way / "run"), contents(way / "predictions")
    boxel("prepare", way / "data", "--out", way / "work", *RECIPE)
    boxel("train", way / "work", "--out", way / "run", *RECIPE)
    boxel("predict", way / "run", way / "data" / "imagesTs", "--out", way / "predictions")
    assert (contents(way / "work", "cases/*"), contents(way / "run"), contents(way / "predictions")) == before


def test_a_killed_preparation_continues_and_ends_the_same(way, tmp_path):
    command = ("prepare", way / "data", "--out", tmp_path / "work", "--workers", 0, *RECIPE)
    kill_when(tmp_path, "work/cases/*.json", *command)
    refused = boxel("train", tmp_path / "work", *RECIPE, check=False)
    assert refused.returncode == 2
    assert "boxel prepare" in refused.stderr
    boxel("prepare", way / "data", "--out", tmp_path / "work", *RECIPE)
    assert contents(tmp_path / "work", "cases/*") == contents(way / "work", "cases/*")
    for name in ("task.json", "splits.json", "manifest.json"):
        assert (tmp_path / "work" / name).read_bytes() == (way / "work" / name).read_bytes()


def test_a_killed_training_continues_and_ends_the_same(way, tmp_path):
    run = tmp_path / "run"
    kill_when(tmp_path, "run/resume.safetensors", "train", way / "work", "--out", run, *RECIPE)
    boxel("train", way / "work", "--out", run, *RECIPE)
    assert (run / "weights.safetensors").read_bytes() == (way / "run" / "weights.safetensors").read_bytes()
    assert losses(run) == losses(way / "run")


def test_a_killed_prediction_continues_and_ends_the_same(way, tmp_path):
    out = tmp_path / "predictions"
    command = ("predict", way / "run", way / "data" / "imagesTs", "--out", out)
    kill_when(tmp_path, "predictions/*.json", *command)
    first = next(out.glob("*.json"))
    written = first.stat().st_mtime_ns
    boxel(*command)
    assert first.stat().st_mtime_ns == written
    assert contents(out, "*.json") == contents(way / "predictions", "*.json")


@pytest.mark.parametrize("way", [2], indirect=True, ids=["2d"])
def test_two_processes_train_one_model(way, tmp_path):
    devices = ("--set", "train.devices=2", "--set", "train.accelerator=cpu")
    out = program("train", way / "work", "--out", tmp_path / "run", *RECIPE, *devices)
    assert out.count("trained") == 1
    assert len(losses(tmp_path / "run")) == 8
    assert losses(tmp_path / "run") != losses(way / "run")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.parametrize("way", [2], indirect=True, ids=["2d"])
def test_a_compiled_model_trains(way, tmp_path):
    program("train", way / "work", "--out", tmp_path / "run", *RECIPE, "--set", "train.compile=true")
    assert losses(tmp_path / "run") == pytest.approx(losses(way / "run"), rel=0.05)


@pytest.mark.parametrize("way", [3], indirect=True, ids=["3d"])
def test_a_slice_wise_model_with_context_detects_objects_of_volumes(way, tmp_path):
    slices = ("plan.ndim=2", "plan.context=1", "train.steps=60", "train.lr=0.01")
    recipe = [*RECIPE, *set_words(slices)]
    boxel("prepare", way / "data", "--out", tmp_path / "work", *recipe)
    boxel("train", tmp_path / "work", "--out", tmp_path / "run", *recipe)
    boxel("predict", tmp_path / "run", way / "data" / "imagesTs", "--out", tmp_path / "p", "--segmentation")
    for path in (way / "data" / "imagesTs").glob("*.mha"):
        label_map = read_label_map(tmp_path / "p" / path.name.replace("_0000.mha", "_seg.nii.gz"))
        assert not same_grid(label_map.geometry, read_image(path).geometry)
    records = [json.loads(path.read_text()) for path in (tmp_path / "p").glob("*.json")]
    detections = [detection for record in records for detection in record["detections"]]
    assert {record["ndim"] for record in records} == {3}
    assert max(one["upper"][0] - one["lower"][0] for one in detections) > 1


def test_bad_choices_are_refused_with_the_likely_fix(way, tmp_path):
    refused("train", way / "work", "--recipe", "retina_unett", says="did you mean")
    refused("train", way / "work", *RECIPE, "--set", "train.stepz=3", says="did you mean 'steps'")
    refused("train", way / "work", *RECIPE, "--set", "model.dense.matcher={}", says="model.dense.matcher: needs a type")
    refused("train", way / "work", *RECIPE, "--fold", 99, says="fold 99")
    refused("train", way / "work", "--out", way / "run", *RECIPE, "--set", "train.lr=0.5", says="other choices")
    refused("train", tmp_path, says="boxel prepare")
    refused("predict", tmp_path, way / "data", "--out", tmp_path / "p", says="not a run")
    refused("predict", way / "run", tmp_path / "nothing.png", "--out", tmp_path / "p", says="nothing.png")
    refused("evaluate", tmp_path, way / "data", "--out", tmp_path / "e", says="no prediction")
    evaluate = ("evaluate", way / "predictions", way / "data", "--out", tmp_path / "e")
    refused(*evaluate, "--iou", 0.5, "--iou", 0.5, says="boxel: --iou must be different numbers")
    refused(*evaluate, "--iou", -1, says="boxel: --iou: Input should be greater than 0 (given: '-1.0')")
    refused(*evaluate, "--score", 2, says="boxel: --score: Input should be less than or equal to 1")
    refused(*evaluate, "--resamples", -1, says="boxel: --resamples: Input should be greater than or equal to 0")
    refused(*evaluate, "--protocol", "coco", "--rule", "mdt", "--iou", 0.3, says="leave out --iou, --rule")
    refused("report", way / "run", "--cases", -1, says="--cases")
    for setting in ("overlap=1", "overlap=-0.1", "batch_size=0", "tile_voxels=0", "checkpoints=0"):
        words = ("predict", way / "run", way / "data", "--out", tmp_path / "p", "--set", f"predict.{setting}")
        refused(*words, says=f"predict.{setting.partition('=')[0]}: Input should be")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_model_is_refused(way, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(way / "run", run)
    config = json.loads((run / "config.json").read_text())
    config["model"]["backbone"]["start_filters"] = 8
    (run / "config.json").write_text(json.dumps(config))
    refused("predict", run, way / "data" / "imagesTs", "--out", tmp_path / "p", says="weights of another model")
    assert not (tmp_path / "p").exists()


def test_a_missing_prediction_is_an_error_that_names_the_case(way, tmp_path):
    shutil.copytree(way / "predictions", tmp_path / "p")
    (tmp_path / "p" / "test_00002.json").unlink()
    refused("evaluate", tmp_path / "p", way / "data", "--out", tmp_path / "e", says="test_00002")
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("ndim", [2], indirect=True, ids=["2d"])
def test_the_demo_on_a_data_set_writes_everything_and_the_same_seed_repeats_it(ndim, native, tmp_path):
    tables = []
    for name in ("first", "second"):
        boxel("demo", "--data", native, "--out", tmp_path / name, "--seed", 4, *RECIPE[2:])
        tables.append((tmp_path / name / "metrics.json").read_text())
        assert (tmp_path / name / "report.html").stat().st_size > 10_000
        assert [path.name for path in (tmp_path / name / "predictions").glob("*.json")] == ["d.json"]
    assert tables[0] == tables[1]


def test_models_lists_recipes_and_counts_parameters():
    assert "mdt_lidc_3d" in boxel("models").stdout
    table = json.loads(boxel("models", "--recipe", "mdt_toy", "--json").stdout)
    parts = table["retina_net"]["parameters"]
    assert parts["encoder"] + parts["neck"] == 15_433_344 - 9_408 - 331_968

"""Score thresholds from training to the files that people look at, as a user types the commands."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import boxel as package
from boxel.export import json_schema
from boxel.io import read_image, write_image
from tests.end_to_end.commands import RECIPE, boxel, refused, set_words

LOW = ("model.dense.min_score=0.0", "consolidate.min_score=0.0", "consolidate.max_detections=20")


@pytest.fixture(scope="module", params=[2, 3], ids=["2d", "3d"])
def way(request, tmp_path_factory) -> Path:
    """A hardly trained run, and predictions in three formats."""
    root = tmp_path_factory.mktemp(f"points{request.param}")
    size = {2: 64, 3: 32}[request.param]
    boxel("toy", "--out", root / "data", "--ndim", request.param, "--size", size, "--train", 4, "--val", 3, "--test", 2)
    boxel("prepare", root / "data", "--out", root / "work", *RECIPE, *set_words(LOW))
    boxel("train", root / "work", "--out", root / "run", *RECIPE, *set_words(LOW))
    formats = [word for name in ("csv", "slicer", "preview") for word in ("--to", name)]
    boxel("predict", root / "run", root / "data" / "imagesTs", "--out", root / "p", *formats)
    return root


def predictions(folder: Path) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def shown(folder: Path) -> dict[str, int]:
    """The number of detections of each case in files for Slicer."""
    files = {path.name.removesuffix(".mrk.json"): json.loads(path.read_text()) for path in folder.glob("*.json")}
    return {case: len(file["markups"]) for case, file in files.items()}


def above(folder: Path) -> dict[str, int]:
    return {case: sum(d["above"] for d in one["detections"]) for case, one in predictions(folder).items()}


def test_a_training_measures_thresholds_and_another_measurement_gives_the_same(way):
    file = way / "run" / "operating_points.json"
    before = file.read_bytes()
    points = json.loads(before)["points"]
    assert points["num_images"] == 3
    for of_class in points["points"].values():
        assert [*of_class] == ["f1", *(f"fp={rate}" for rate in ("0.125", "0.25", "0.5", "1", "2", "4", "8"))]
        assert all(point["fp_per_image"] <= float(name[3:]) for name, point in of_class.items() if name != "f1")
    file.unlink()
    boxel("train", way / "work", "--out", way / "run", *RECIPE, *set_words(LOW))  # as after a kill
    assert file.read_bytes() == before
    assert "highest F1" in boxel("thresholds", way / "run").stdout
    assert file.read_bytes() == before


def test_files_for_people_have_the_detections_above_and_others_all(way):
    jsonschema = pytest.importorskip("jsonschema")
    counts = above(way / "p")
    assert shown(way / "p" / "slicer") == counts
    everything = {case: len(one["detections"]) for case, one in predictions(way / "p").items()}
    rows = (way / "p" / "csv" / "detections.csv").read_text().splitlines()[1:]
    assert len(rows) == sum(everything.values()) > sum(counts.values())
    for one in predictions(way / "p").values():
        jsonschema.Draft202012Validator(json_schema()).validate(one)
        least = {name: point["score"] for name, point in one["operating_points"]["applied"].items()}
        assert all(d["above"] == (d["score"] >= least[d["class"]]) for d in one["detections"])
    detector = package.load(way / "run")
    case, detections, _ = package.read_detections(next((way / "p").glob("*.json")))
    assert len(detector.operating_points.above(detections)) == counts[case]
    assert len(detector.operating_points.above(detections, keep_all=True)) == everything[case]


@pytest.mark.parametrize("way", [2], indirect=True, ids=["2d"])
@pytest.mark.parametrize("words", [("--min-score", 0.02), ("--fp-per-image", 2)])
def test_predict_and_convert_choose_alike(way, tmp_path, words):
    command = ("predict", way / "run", way / "data" / "imagesTs", "--out", tmp_path / "p", "--to", "slicer", *words)
    said = boxel(*command).stderr
    assert "marked as above the threshold: " in said
    assert shown(tmp_path / "p" / "slicer") == above(tmp_path / "p")
    said = boxel("convert", way / "p", "--to", "slicer", "--out", tmp_path / "converted", *words).stderr
    assert shown(tmp_path / "converted") == above(tmp_path / "p")
    assert f"{sum(above(tmp_path / 'p').values())} of " in said
    refused(*command[: -len(words)], says=f"{words[0]} ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--all", "--min-score", 0.3), "--min-score and --all both choose"),
        (("--fp-per-image", 3), "--fp-per-image 3: must be one of 0.125, 0.25, 0.5, 1, 2, 4, 8"),
        (("--guarantee", "fp=1", "--confidence", 0), "--confidence 0: must be above 0"),
        (("--guarantee", "fp=1"), "needs at least 9 validation patients, and this run has 3"),
    ],
)
@pytest.mark.parametrize("way", [2], indirect=True, ids=["2d"])
def test_a_choice_that_cannot_be_made_is_one_message(way, tmp_path, words, says):
    refused("predict", way / "run", way / "data" / "imagesTs", "--out", tmp_path / "p", *words, says=says)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("way", [2], indirect=True, ids=["2d"])
def test_a_guarantee_chooses_one_threshold_for_all_classes(way, tmp_path):
    words = ("--guarantee", "fp=1", "--confidence", 0.7)
    boxel("predict", way / "run", way / "data" / "imagesTs", "--out", tmp_path / "p", *words)
    for one in predictions(tmp_path / "p").values():
        applied = one["operating_points"]
        assert len({point["score"] for point in applied["applied"].values()}) == 1
        assert applied["rule"] == "at most 1 false positive in each image, in 70 % of the patients"


@pytest.mark.parametrize("way", [2], indirect=True, ids=["2d"])
def test_without_thresholds_everything_is_shown_and_said(way, tmp_path):
    run = tmp_path / "run"
    run.symlink_to(way / "run")
    file = way / "run" / "operating_points.json"
    content = file.read_bytes()
    file.unlink()
    try:
        command = ("predict", run, way / "data" / "imagesTs", "--out", tmp_path / "p", "--to", "slicer")
        assert boxel(*command).stderr.count("`boxel thresholds") == 1
        assert all("above" not in d for one in predictions(tmp_path / "p").values() for d in one["detections"])
        refused(*command, "--fp-per-image", 1, says="--fp-per-image needs score thresholds")
    finally:
        file.write_bytes(content)
    convert = ("convert", tmp_path / "p", "--to", "mitk", "--out", tmp_path / "mitk")
    assert "no score thresholds are known, --min-score" in boxel(*convert).stderr
    refused(*convert, "--fp-per-image", 1, says="no thresholds were measured")


def swap_classes(values):
    values["points"]["applied"] = dict(reversed(values["points"]["applied"].items()))


def rename_class(values):
    values["matches"]["classes"]["other"] = values["matches"]["classes"].pop("donut")


def add_score(values):
    one = values["matches"]["classes"]["donut"]
    one["scores"] = [*one["scores"], 0.5]


def drop_patient(values):
    del values["matches"]["patients"][0]


def drop_quantile(values):
    del values["intensities"][0][0]


@pytest.mark.parametrize("way", [2], indirect=True, ids=["2d"])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (swap_classes, "points must name the classes of applied, in their order"),
        (rename_class, "its classes are not disc, donut, those of the run"),
        (add_score, "images, scores and hits must have a value for each detection"),
        (drop_patient, "objects and images must be those of 2 images"),
        (drop_quantile, "intensities.0: "),
    ],
)
def test_what_a_training_measured_is_refused_if_damaged_and_can_be_made_again(way, tmp_path, damage, says):
    name = "training_images.json" if damage is drop_quantile else "operating_points.json"
    run = tmp_path / "run"
    shutil.copytree(way / "run", run)
    values = json.loads((run / name).read_text())
    damage(values)
    (run / name).write_text(json.dumps(values))
    error = refused("predict", run, way / "data" / "imagesTs", "--out", tmp_path / "p", says=says)
    assert f"{run / name}: " in error
    assert f"`boxel thresholds {run}` writes it again" in error
    assert not (tmp_path / "p").exists()


def test_an_image_unlike_the_training_images_is_predicted_with_a_warning(way, tmp_path):
    image = read_image(way / "data" / "imagesTs" / "test_00000_0000.mha")
    spacing = tuple(4 * step for step in image.geometry.spacing)
    write_image(tmp_path / "scans" / "coarse.nii.gz", replace(image, geometry=replace(image.geometry, spacing=spacing)))
    words = set_words(["predict.tile_voxels=65536"])
    said = boxel("predict", way / "run", tmp_path / "scans", "--out", tmp_path / "p", *words).stderr
    assert "coarse: unlike the training images: spacing 4 x 4" in said
    [warning] = predictions(tmp_path / "p")["coarse"]["warnings"]
    assert warning in said
    boxel("consolidate", tmp_path / "p", "--out", tmp_path / "again")
    assert predictions(tmp_path / "again")["coarse"]["warnings"] == [warning]
    assert not any("warnings" in one for one in predictions(way / "p").values())

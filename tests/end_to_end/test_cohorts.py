"""Many images and several runs: ensembles, shards, subfolders. Whatever the way, the files are those of one process."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import boxel
from boxel import output_folder
from boxel.io import read_image, write_image
from boxel.locks import locked
from boxel.output_folder import lock_of_case
from boxel.types import Geometry, Image
from tests.end_to_end.commands import boxel as run_boxel
from tests.end_to_end.commands import contents
from tests.forks import Command

RECIPE = "retina_unet_small"
SETTINGS = (
    "train.steps=2", "train.validate_every=1", "train.keep=2", "train.batch_size=2", "train.num_workers=0",
    "model.backbone.start_filters=4", "model.backbone.depth=10", "predict.views=identity",
    "model.dense.min_score=0.0", "consolidate.min_score=0.0", "consolidate.max_detections=7",
)  # fmt: skip


@pytest.fixture(scope="module", params=[2, 3], ids=["2d", "3d"])
def root(request, tmp_path_factory) -> Path:
    """A hardly trained run with two checkpoints, two runs with one of these each, and predictions of five images."""
    root, ndim = tmp_path_factory.mktemp("cohorts"), request.param
    boxel.make_toy(root / "data", num_train=4, num_val=2, num_test=5, ndim=ndim, size={2: 64, 3: 32}[ndim])
    boxel.prepare(root / "data", root / "work", recipe=RECIPE, overrides=SETTINGS, workers=0)
    boxel.train(root / "work", root / "run", recipe=RECIPE, overrides=SETTINGS)
    ranking = json.loads((root / "run" / "checkpoints" / "ranking.json").read_text())
    for name, entry in zip("ab", ranking, strict=True):
        shutil.copytree(root / "run", root / name)
        (root / name / "checkpoints" / "ranking.json").write_text(json.dumps([entry]))
    boxel.predict(root / "run", root / "data" / "imagesTs", root / "predictions")
    return root


@pytest.fixture
def images(root) -> Path:
    return root / "data" / "imagesTs"


@pytest.fixture
def changed(root, tmp_path) -> Iterator[Path]:
    """A copy of run b, to be changed."""
    shutil.copytree(root / "b", tmp_path / "changed")
    return tmp_path / "changed"


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def by_name(folder: Path) -> dict[str, bytes]:
    """The content of each file, wherever it is in the folder."""
    files = contents(folder)
    names = {Path(place).name: content for place, content in files.items()}
    assert len(names) == len(files)
    return names


def test_runs_of_one_checkpoint_each_predict_what_one_run_with_both_does(root, images, tmp_path):
    words = ("predict", root / "a", images, "--with", root / "b", "--out", tmp_path / "out")
    assert "predicted 5 images" in run_boxel(*words).stdout
    both, one = boxel.read_raw(tmp_path / "out"), boxel.read_raw(root / "predictions")
    assert {*both} == {f"test_0000{k}" for k in range(5)}
    for case, prediction in both.items():
        assert prediction.raw.num_views == one[case].raw.num_views == 2
        assert {*prediction.raw.views} == {0, 1}
        for name in ("boxes", "scores", "labels", "views", "tiles"):
            assert (getattr(prediction.raw, name) == getattr(one[case].raw, name)).all()
        places = (tmp_path / "out", root / "predictions")
        detections = [json.loads((place / f"{case}.json").read_text())["detections"] for place in places]
        assert detections[0] == detections[1]
        assert len(detections[0]) == 7
    detector = boxel.load(root / "a", ensemble=[root / "b"])
    assert detector.fingerprint not in {boxel.load(root / name).fingerprint for name in ("a", "b")}


def test_the_checkpoints_of_an_ensemble_are_counted_in_each_run(root, images, tmp_path):
    boxel.predict(root / "run", images, tmp_path / "out", ensemble=[root / "b"])
    prediction = boxel.read_raw(tmp_path / "out")["test_00000"]
    assert prediction.views.checkpoints == (2, 1)
    best = prediction.select(checkpoints=1)
    alone = boxel.predict(root / "a", images, tmp_path / "best", ensemble=[root / "b"])
    raw = boxel.read_raw(tmp_path / "best")["test_00000"].raw
    assert (best.raw.views == raw.views).all()
    assert (best.raw.boxes == raw.boxes).all()
    assert len(alone) == 5
    with pytest.raises(ValueError, match=r"checkpoints 2: must be 1 to 1"):
        prediction.select(checkpoints=2)


def test_runs_of_different_tasks_are_refused_with_the_run_and_the_setting(root, images, tmp_path, changed):
    def refuse(run, says):
        with pytest.raises(ValueError, match=says):
            boxel.predict(root / "a", images, tmp_path / "out", ensemble=[run])

    task = json.loads((changed / "task.json").read_text())
    edit(changed / "task.json", spacing=[2 * size for size in task["spacing"]])
    refuse(changed, says=rf"{changed}: has spacing \(2.0, ")
    edit(changed / "task.json", spacing=task["spacing"], classes=["a", "b"])
    refuse(changed, says=rf"{changed}: has classes \('a', 'b'\), but {root / 'a'} has \(")
    edit(changed / "task.json", classes=task["classes"], normalisation=[{"kind": "ct", "upper": 9.0}])
    refuse(changed, says=f"{changed}: has normalisation")
    refuse(root / "a", says="named twice")
    refuse(root / "data", says="not a run folder")
    assert not (tmp_path / "out").exists()


def test_a_warning_names_the_images_that_any_run_was_trained_on(root, images, tmp_path, changed, caplog):
    edit(changed / "split.json", train=["test_00003", "test_00001"])
    boxel.predict(root / "a", images, tmp_path / "out", ensemble=[changed])
    (warning,) = [record.message for record in caplog.records if "optimistic" in record.message]
    assert f"2 of 5 images may be among those {changed} was trained on: test_00001, test_00003" in warning


def test_shards_that_run_at_the_same_time_write_the_files_of_one_process(root, images, tmp_path):
    out = tmp_path / "out"
    words = ("predict", root / "run", images, "--out", out)
    shards = [Command(*words, "--shard", f"{number}/3") for number in (3, 1, 2)]
    assert [shard.wait().returncode for shard in shards] == [0, 0, 0]
    assert contents(out) == contents(root / "predictions")
    (out / "test_00002.json").unlink()
    run_boxel(*words, "--to", "csv")
    assert (out / "csv").is_dir()
    assert contents(out, "*.json") == contents(root / "predictions", "*.json")


def test_a_case_that_another_process_predicts_is_left_to_it(root, images, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    names = sorted(path.stem for path in boxel.predict(root / "a", images, whole))
    started = threading.Event()

    def work_elsewhere():
        with locked(out, "boxel predict", lock_of_case(names[0])):
            started.set()
            while len(list(out.glob("*.json"))) < len(names) - 1:
                time.sleep(0.01)
            for file in [*whole.rglob(f"{names[0]}.npz"), whole / f"{names[0]}.json"]:
                shutil.copy(file, out / file.relative_to(whole))

    other = threading.Thread(target=work_elsewhere)
    other.start()
    started.wait()
    boxel.predict(root / "a", images, out)
    other.join()
    assert contents(out) == contents(whole)


def test_two_processes_do_not_make_one_whole_prediction(root, images, tmp_path):
    refused = tmp_path / "out"
    with locked(refused, "boxel predict"):
        with pytest.raises(ValueError, match="in use by `boxel predict`"):
            boxel.predict(root / "a", images, refused)
        assert boxel.predict(root / "a", images, refused, shard="1/2")


def test_the_shards_are_every_case_once(root, images, tmp_path):
    parts = [boxel.predict(root / "a", images, tmp_path / "out", shard=f"{number}/2") for number in (2, 1)]
    assert [[path.stem[-1] for path in part] for part in parts] == [["1", "3"], ["0", "2", "4"]]


def test_a_shard_that_does_not_exist_or_writes_formats_is_refused(root, images, tmp_path):
    for shard in ("0/3", "4/3", "1", "a/b", "1/0"):
        with pytest.raises(ValueError, match=f"--shard {shard}: must be i/n"):
            boxel.predict(root / "a", images, tmp_path / "out", shard=shard)
    with pytest.raises(ValueError, match=r"--to csv: formats are written when all cases are done.*`boxel convert"):
        boxel.predict(root / "a", images, tmp_path / "out", shard="1/3", formats=["csv"])
    with pytest.raises(ValueError, match="--workers 2: must be at least 1 and needs --ray"):
        boxel.predict(root / "a", images, tmp_path / "out", workers=2)
    assert not (tmp_path / "out").exists()


def test_many_cases_are_divided_among_subfolders_that_every_verb_reads(root, images, tmp_path, monkeypatch):
    flat, out = root / "predictions", tmp_path / "out"
    monkeypatch.setattr(output_folder, "MANY", 3)
    for shard in ("2/2", "1/2"):
        boxel.predict(root / "run", images, out, shard=shard)
    assert not list(out.glob("*.json"))
    assert not list((out / "raw").glob("*.npz"))
    assert by_name(out) == by_name(flat)
    written = {path: path.stat().st_mtime_ns for path in boxel.predict(root / "run", images, out)}
    assert written == {path: path.stat().st_mtime_ns for path in boxel.predict(root / "run", images, out)}
    assert by_name(out) == by_name(flat)

    boxel.consolidate_folder(out, tmp_path / "c")
    assert not list((tmp_path / "c").glob("*.json"))
    assert by_name(tmp_path / "c") == contents(flat, "*.json")
    assert boxel.read_raw(out).keys() == boxel.read_raw(flat).keys()
    results = [boxel.evaluate(folder, root / "data").metrics for folder in (out, tmp_path / "c", flat)]
    assert results[0] == results[1] == results[2]
    for name, folder in (("nested", out), ("flat", flat)):
        boxel.convert(folder, tmp_path / name, "csv")
    assert contents(tmp_path / "nested") == contents(tmp_path / "flat")
    page = boxel.report(root / "run", predictions=out, dataset=root / "data", out=tmp_path / "page.html")
    assert "test_00004" in page.read_text()


def test_segmentations_in_subfolders_are_consolidated_too(root, images, tmp_path, monkeypatch):
    monkeypatch.setattr(output_folder, "MANY", 3)
    boxel.predict(root / "a", images, tmp_path / "out", overrides=["predict.segmentation=true"])
    boxel.consolidate_folder(tmp_path / "out", tmp_path / "again")
    before = {name: content for name, content in by_name(tmp_path / "out").items() if not name.endswith(".npz")}
    assert len(before) == 10
    assert by_name(tmp_path / "again") == before


def spoil(images: Path, folder: Path) -> tuple[Path, dict[str, bytes]]:
    """A copy of the five images of which one is cut and one has an axis too many or too few, and their content."""
    copy = shutil.copytree(images, folder)
    files = sorted(copy.iterdir())
    before = {files[number].name: files[number].read_bytes() for number in (1, 3)}
    files[1].write_bytes(before[files[1].name][:100])
    array = read_image(files[3]).array
    other = array[:, 0] if array.ndim == 4 else array[:, None].repeat(3, 1)
    write_image(files[3], Image(other, Geometry.plain(other.shape[1:])))
    return copy, before


@pytest.mark.parametrize("more", [(), ("--shard", "1/1")])
def test_images_that_cannot_be_predicted_stop_no_others_and_are_listed_at_the_end(root, images, tmp_path, more):
    copy, before = spoil(images, tmp_path / "images")
    words = ("predict", root / "run", copy, "--out", tmp_path / "out", *more)
    result = run_boxel(*words, check=False)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    head, *listed = result.stderr[result.stderr.index("boxel: ") :].splitlines()
    assert head == "boxel: 2 of 5 images could not be predicted; rerun the command to try these again:"
    assert [line.split(": ")[0] for line in listed] == [str(copy / name) for name in before]
    assert all(len(line.split(": ", 1)[1]) > 5 for line in listed)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*") if path.is_file()}
    assert sorted(path.name for path in done if path.suffix in (".json", ".npz")) == [
        f"test_0000{number}.{kind}" for number in (0, 2, 4) for kind in ("json", "npz")
    ]
    for name, content in before.items():
        (copy / name).write_bytes(content)
    assert "predicted 5 images" in run_boxel(*words).stdout
    assert done.items() <= {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}.items()
    assert len(list((tmp_path / "out").glob("raw/*.npz"))) == 5


def test_formats_wait_for_images_that_cannot_be_predicted(root, images, tmp_path):
    copy, _ = spoil(images, tmp_path / "images")
    with pytest.raises(ValueError, match=r"2 of 5 images .*, or `boxel convert --to csv` without them:"):
        boxel.predict(root / "a", copy, tmp_path / "out", formats=["csv"])
    assert not (tmp_path / "out" / "csv").exists()
    with pytest.warns(UserWarning, match="2 of 5 images are missing"):
        boxel.convert(tmp_path / "out", tmp_path / "csv", "csv")
    for file in copy.iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(ValueError, match="5 of 5 images"):
        boxel.predict(root / "a", copy, tmp_path / "none")
    assert not (tmp_path / "none").exists()

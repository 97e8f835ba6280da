"""`boxel consolidate`: stored raw predictions become the detections that `boxel predict` would have written."""

import json
import shutil

import pytest

import boxel
from tests.end_to_end.commands import boxel as run_boxel
from tests.end_to_end.commands import contents, refused

SETTINGS = (
    "train.steps=2", "train.validate_every=1", "train.keep=2", "train.batch_size=2", "train.num_workers=0",
    "model.backbone.start_filters=4", "model.backbone.depth=10", "predict.views=plane", "predict.masks=true",
    "predict.segmentation=true",
    "model.dense.min_score=0.0", "consolidate.min_score=0.0", "consolidate.max_detections=7",
)  # fmt: skip
KINDS = {
    "2d": (2, ("plan.spacing=[1.5,1.25]",)),
    "3d": (3, ("plan.spacing=[1.5,1.25,1.25]",)),
    "slice-wise": (3, ("plan.ndim=2", "plan.context=1", "plan.spacing=[1.5,1.25,1.25]")),
}


@pytest.fixture(scope="module", params=KINDS)
def root(request, tmp_path_factory):
    """A hardly trained model of each kind on toy data, and its predictions with masks."""
    ndim, plan = KINDS[request.param]
    root, recipe = tmp_path_factory.mktemp("consolidate"), "retina_unet_small"
    size = {2: 64, 3: 32}[ndim]
    boxel.make_toy(root / "data", num_train=4, num_val=2, num_test=2, ndim=ndim, size=size)
    boxel.prepare(root / "data", root / "work", recipe=recipe, overrides=(*SETTINGS, *plan), workers=0)
    run = boxel.train(root / "work", root / "run", recipe=recipe, overrides=(*SETTINGS, *plan))
    boxel.predict(run, [root / "data" / "imagesTs"], root / "predictions")
    return root


def test_unchanged_settings_give_the_files_that_predict_wrote(root, tmp_path):
    boxel.consolidate_folder(root / "predictions", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(root / "predictions", "*.*")
    assert (tmp_path / "again" / "test_00000_seg.nii.gz").exists()
    record = json.loads((tmp_path / "again" / "test_00000.json").read_text())
    assert len(record["detections"]) == 7
    assert "mask" in record["detections"][0]


def test_changed_settings_give_the_files_that_predict_would_have_written(root, tmp_path):
    changed = ("consolidate.method=nms", "consolidate.max_detections=3")
    boxel.consolidate_folder(root / "predictions", tmp_path / "a", overrides=changed)
    boxel.predict(root / "run", [root / "data" / "imagesTs"], tmp_path / "b", overrides=changed)
    for path in sorted((tmp_path / "b").glob("*.json")):
        a, b = (json.loads(file.read_text()) for file in (tmp_path / "a" / path.name, path))
        assert a["extra"].pop("detector") != b["extra"].pop("detector")
        assert a == b
        assert len(a["detections"]) == 3


def test_a_finished_consolidation_is_not_repeated_and_other_settings_need_another_folder(root, tmp_path):
    first, *_ = boxel.consolidate_folder(root / "predictions", tmp_path / "out")
    written = first.stat().st_mtime_ns
    boxel.consolidate_folder(root / "predictions", tmp_path / "out")
    assert first.stat().st_mtime_ns == written
    with pytest.raises(ValueError, match=r"consolidate\.max_detections 7 instead of 1; choose another folder"):
        boxel.consolidate_folder(root / "predictions", tmp_path / "out", overrides=["consolidate.max_detections=1"])
    assert first.stat().st_mtime_ns == written


@pytest.mark.parametrize("root", ["2d", "3d"], indirect=True)
def test_a_missing_or_damaged_file_leaves_no_half_output(root, tmp_path):
    predictions, out = tmp_path / "p", tmp_path / "out"
    shutil.copytree(root / "predictions", predictions)
    last = predictions / "raw" / "test_00001.npz"
    content = last.read_bytes()
    last.write_bytes(content[:-100])
    with pytest.raises(ValueError, match=rf"{last}: .*damaged"):
        boxel.consolidate_folder(predictions, out)
    last.unlink()
    with pytest.raises(ValueError, match=rf"{last}: missing, although test_00001.json was predicted"):
        boxel.consolidate_folder(predictions, out)
    last.write_bytes(content)
    (predictions / "test_00001_seg.nii.gz").unlink()
    with pytest.raises(ValueError, match="segmentation of this prediction is missing"):
        boxel.consolidate_folder(predictions, out)
    assert not out.exists()


@pytest.mark.parametrize("root", ["2d"], indirect=True)
def test_the_other_verbs_take_what_consolidate_wrote_without_the_run_and_the_images(root, tmp_path):
    shutil.copytree(root / "predictions", tmp_path / "p", ignore=shutil.ignore_patterns("*.json"))
    changed = ("--set", "consolidate.iou_threshold=0.2")
    assert "consolidated 2 images" in run_boxel("consolidate", tmp_path / "p", *changed, "--out", tmp_path / "c").stdout
    run_boxel("evaluate", tmp_path / "c", root / "data", "--out", tmp_path / "e", "--resamples", 0)
    run_boxel("convert", tmp_path / "c", "--to", "csv", "--out", tmp_path / "csv")
    page = tmp_path / "page.html"
    run_boxel("report", root / "run", "--predictions", tmp_path / "c", "--dataset", root / "data", "--out", page)
    assert "test_00000" in page.read_text()


@pytest.mark.parametrize("root", ["2d"], indirect=True)
def test_bad_input_is_one_message(root, tmp_path):
    out = ("--out", tmp_path / "out")
    predictions = root / "predictions"
    refused("consolidate", tmp_path / "nowhere", *out, says="nowhere: no such file or folder")
    refused("consolidate", root / "data", *out, says="no raw predictions")
    refused("consolidate", predictions, "--out", predictions, says="holds the output of `boxel predict`; choose a new")
    refused("consolidate", predictions, *out, "--set", "consolidate.metod=nms", says="did you mean 'method'")
    refused("consolidate", predictions, *out, "--set", "consolidate.method=mean", says="'wbc', 'nms'")
    refused("consolidate", predictions, *out, "--set", "consolidate.min_score=5", says="less than or equal to 1")
    images = root / "data" / "imagesTs"
    refused("consolidate", predictions, "--out", images, says="test_00000_0000.mha, which `boxel consolidate` did not")
    refused("consolidate", predictions, *out, "--set", "predict.views=all", says="unknown key 'predict'")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("root", ["2d"], indirect=True)
@pytest.mark.parametrize(("part", "total", "refused"), [("imagesTs", 2, True), ("imagesTr", 6, False)])
def test_an_unfinished_prediction_is_said_until_it_is_resumed(root, tmp_path, part, total, refused):
    def stop(verb, done, total):
        if done == 1:
            raise KeyboardInterrupt

    def consolidate():
        return _words(run_boxel("consolidate", predictions, *changed, "--out", tmp_path / "c"))

    def evaluate(folder, name, code=0):
        words = ("evaluate", folder, root / "data", "--resamples", 0, "--out", tmp_path / name)
        result = run_boxel(*words, check=False)
        assert result.returncode == code, result.stderr
        return _words(result)

    predictions, images = tmp_path / "p", [root / "data" / part]
    changed = ("--set", "consolidate.iou_threshold=0.2")
    with pytest.raises(KeyboardInterrupt):
        boxel.predict(root / "run", images, predictions, progress=stop)
    assert len(list(predictions.glob("*.json"))) == 1
    said = f"unfinished: {total - 1} of {total} images {'is' if total == 2 else 'are'} missing ("
    assert said in consolidate()
    for folder, verb in ((predictions, "predict"), (tmp_path / "c", "consolidate")):
        words = evaluate(folder, f"e_{verb}", code=2 if refused else 0)
        assert said in words
        assert f"rerun the interrupted `boxel {verb}` to resume it" in words
    boxel.predict(root / "run", images, predictions)
    assert "unfinished:" not in consolidate()
    for folder in (predictions, tmp_path / "c"):
        assert "unfinished:" not in evaluate(folder, f"again_{folder.name}")


def _words(result):
    """What a command said, without line breaks."""
    return " ".join((result.stdout + result.stderr).split())


def without_detector(folder):
    """The content of each JSON file; the stamps of the detectors differ."""
    records = {path.name: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    assert records
    for record in records.values():
        record["extra"].pop("detector")
    return records


@pytest.mark.parametrize(
    ("choice", "setting"),
    [
        ({"views": 1}, "views=identity"),
        ({"views": "identity"}, "views=identity"),
        ({"checkpoints": 1}, "checkpoints=1"),
    ],
    ids=str,
)
def test_some_of_the_views_or_checkpoints_give_the_detections_predicted_with_these(root, tmp_path, choice, setting):
    images = [root / "data" / "imagesTs" / "test_00000_0000.mha"]
    plain = ("predict.masks=false", "predict.segmentation=false")
    boxel.predict(root / "run", images, tmp_path / "all", overrides=plain)
    boxel.consolidate_folder(tmp_path / "all", tmp_path / "some", **choice)
    boxel.predict(root / "run", images, tmp_path / "only", overrides=(*plain, f"predict.{setting}"))
    some = without_detector(tmp_path / "some")
    assert some == without_detector(tmp_path / "only")
    assert some != without_detector(tmp_path / "all")
    with pytest.raises(ValueError, match=r"--(views|checkpoints) .* instead of null"):
        boxel.consolidate_folder(tmp_path / "all", tmp_path / "some")


@pytest.mark.parametrize("root", ["3d"], indirect=True)
def test_views_by_name_are_those_of_the_name_and_leave_out_the_segmentation(root, tmp_path, caplog):
    images, plain = (
        [root / "data" / "imagesTs" / "test_00000_0000.mha"],
        ("predict.masks=false", "predict.checkpoints=1"),
    )
    boxel.predict(root / "run", images, tmp_path / "all", overrides=[*plain, "predict.views=all"])
    boxel.predict(root / "run", images, tmp_path / "predicted", overrides=[*plain, "predict.segmentation=false"])
    boxel.consolidate_folder(tmp_path / "all", tmp_path / "plane", views="plane")
    assert "segmentations of 1 image are left out because they are means over all views" in caplog.text
    assert without_detector(tmp_path / "plane") == without_detector(tmp_path / "predicted")
    assert not list((tmp_path / "plane").glob("*_seg.nii.gz"))


@pytest.mark.parametrize("root", ["2d"], indirect=True)
def test_views_and_checkpoints_that_were_not_recorded_are_refused(root, tmp_path):
    words = ("consolidate", root / "predictions", "--out", tmp_path / "out")
    refused(*words, "--views", 5, says="views 5: must be 1 to 4, the number of recorded views")
    refused(*words, "--views", "plan", says="did you mean 'plane'")
    refused(*words, "--checkpoints", 3, says="checkpoints 3: must be 1 to 2, the number that predicted in each run")
    boxel.predict(root / "run", root / "data" / "imagesTs", tmp_path / "one", overrides=["predict.views=identity"])
    refused("consolidate", tmp_path / "one", *words[2:], "--views", "all", says="predict again with --set predict.view")
    assert not (tmp_path / "out").exists()

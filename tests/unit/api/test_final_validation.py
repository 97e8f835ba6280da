"""Few validation cases during training, all of them for the checkpoints that are kept."""

import json

import pytest

import boxel
from boxel.api.run import read_run
from boxel.api.validation import make_validation
from boxel.preparation.store import Store
from boxel.training.checkpoints import load_weights

QUICK = (
    "train.steps=6", "train.validate_every=2", "train.save_every=2", "train.batch_size=2", "train.num_workers=0",
    "train.keep=3", "train.validation_cases=2", "train.select_by=AP@0.03", "model.backbone.start_filters=4",
    "model.backbone.depth=10", "model.dense.min_score=0.0", "consolidate.min_score=0.0", "predict.views=identity",
)  # fmt: skip
RECIPE = "retina_unet_small"


class StoppedError(Exception):
    pass


def train(root, name, *more, progress=lambda *_: None):
    return boxel.train(root / "work", root / name, recipe=RECIPE, overrides=[*QUICK, *more], progress=progress)


def ranking_of(run):
    return json.loads((run / "checkpoints" / "ranking.json").read_text())


@pytest.fixture(scope="module", params=[2, 3], ids=["2d", "3d"])
def trained(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("final")
    size = {2: 64, 3: 32}[request.param]
    boxel.make_toy(root / "toys", num_train=4, num_val=6, num_test=1, ndim=request.param, size=size)
    boxel.prepare(root / "toys", root / "work", recipe=RECIPE, overrides=QUICK, workers=0)
    return root, train(root, "run")


def test_the_kept_checkpoints_are_ranked_on_all_validation_cases(trained):
    root, run = trained
    ranking = ranking_of(run)
    during = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    scores = {step["step"]: step["val/AP@0.03"] for step in during if "val/AP@0.03" in step}
    assert any(entry["score"] != pytest.approx(scores[entry["step"]], rel=1e-3) for entry in ranking)
    assert {entry["step"] for entry in ranking} == {2, 4, 6}
    assert [entry["score"] for entry in ranking] == sorted((entry["score"] for entry in ranking), reverse=True)
    best = run / "checkpoints" / ranking[0]["file"]
    assert (run / "weights.safetensors").read_bytes() == best.read_bytes()
    store, (experiment, task, split) = Store(root / "work"), read_run(run)
    assert len(split.val) == 6
    validate = make_validation(store, split.val, task, experiment)
    for entry in ranking:
        model = experiment.model.build(task).eval()
        load_weights(model, run / "checkpoints" / entry["file"])
        assert entry["score"] == pytest.approx(validate(model)["AP@0.03"], abs=1e-9)


def test_an_interrupted_final_validation_is_resumed(trained):
    root, run = trained

    def stop(what, done, total):
        if what == "validate" and done == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(root, "stopped", progress=stop)
    final = root / "stopped" / "checkpoints" / "final_validation.json"
    measured = json.loads(final.read_text())
    assert len(measured) == 2
    final.write_text(json.dumps({name: {**metrics, "marked": 1.0} for name, metrics in measured.items()}))
    train(root, "stopped")
    again = json.loads(final.read_text())
    assert sum("marked" in metrics for metrics in again.values()) == 2  # these were not validated twice
    for name in ("weights.safetensors", "checkpoints/ranking.json", "resume.safetensors"):
        assert (root / "stopped" / name).read_bytes() == (run / name).read_bytes()
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    train(root, "run")  # complete: nothing is done again
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")} == before


@pytest.mark.parametrize("more", ["train.keep=1", "train.validation_cases=6", "train.validation_cases=null"])
def test_nothing_is_validated_twice_where_it_cannot_change_the_ranking(trained, more):
    root, _ = trained
    run = train(root, more.replace("=", "_"), more)
    assert not (run / "checkpoints" / "final_validation.json").exists()

"""Trainings that start from a file of weights, as a user types them and in Python."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from boxel.api.detector import load
from boxel.api.training import prepare, train
from tests.end_to_end.commands import QUICK, RECIPE, boxel, refused, set_words
from tests.unit.nn.weight_files import resnet_state

FITTING = ["model.backbone.depth=18", "model.backbone.stem_kernel=7"]


class StoppedError(Exception):
    pass


@pytest.fixture
def weights(native, tmp_path) -> Path:
    """A file of weights; `work` beside it holds prepared data."""
    save_file(resnet_state(width=4), tmp_path / "resnet.safetensors")
    prepare(native, tmp_path / "work", recipe="retina_unet_small", workers=0)
    return tmp_path / "resnet.safetensors"


@pytest.mark.parametrize("ndim", [2], indirect=True, ids=["2d"])
def test_a_training_starts_from_a_file_that_prediction_does_not_need(ndim, native, weights, tmp_path):
    run = tmp_path / "run"
    command = ["train", tmp_path / "work", "--out", run, *RECIPE]
    command += ["--set", f"model.backbone.weights={weights}", "--set", "train.lr=0"]
    # A file that does not fit is refused before the run folder exists, so that the corrected command can follow.
    refused(*command, says="it fits with --set")
    assert not run.exists()
    said = boxel(*command, *set_words(FITTING)).stderr
    [record] = json.loads((run / "pretrained.json").read_text()).values()
    found = f"backbone from {weights}: {len(record['tensors'])} tensors of a ResNet of torchvision or timm; C0 and C1"
    assert found in said
    trained = load_file(run / "weights.safetensors")
    kernel = next(value for key, value in trained.items() if key.endswith(".stages.2.1.body.0.0.weight"))
    assert kernel.equal(load_file(weights)["layer1.0.conv1.weight"])
    weights.unlink()
    boxel("predict", run, native / "imagesTs", "--out", tmp_path / "predictions")
    assert [path.name for path in (tmp_path / "predictions").glob("*.json")] == ["d.json"]


@pytest.mark.parametrize("ndim", [3], indirect=True, ids=["3d"])
def test_a_stopped_training_continues_without_the_file_and_ends_the_same(ndim, weights, tmp_path):
    def stop(what: str, done: int, total: int) -> None:
        if done == 4:
            raise StoppedError

    choices = {"recipe": "retina_unet_small", "overrides": [*QUICK, *FITTING, f"model.backbone.weights={weights}"]}
    whole = train(tmp_path / "work", tmp_path / "whole", **choices)
    with pytest.raises(StoppedError):
        train(tmp_path / "work", tmp_path / "stopped", progress=stop, **choices)
    weights.unlink()
    stopped = train(tmp_path / "work", tmp_path / "stopped", **choices)
    for name in ("weights.safetensors", "pretrained.json"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()
    assert load(stopped).fingerprint == load(whole).fingerprint
    with pytest.raises(ValueError, match=r"resnet\.safetensors: no such file"):
        train(tmp_path / "work", tmp_path / "another", **choices)

"""Predicting on a Ray cluster: whichever worker predicts, and whichever is lost, the files are those of one process."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import boxel
from tests.end_to_end.commands import contents

SETTINGS = (
    "train.steps=2", "train.validate_every=1", "train.keep=2", "train.batch_size=2", "train.num_workers=0",
    "model.backbone.start_filters=4", "model.backbone.depth=10", "predict.views=identity",
    "model.dense.min_score=0.0", "consolidate.min_score=0.0", "consolidate.max_detections=7",
)  # fmt: skip
RECIPE = "retina_unet_small"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A hardly trained run, and the predictions of one process."""
    root = tmp_path_factory.mktemp("ray")
    boxel.make_toy(root / "data", num_train=4, num_val=2, num_test=6, size=64)
    boxel.prepare(root / "data", root / "work", recipe=RECIPE, overrides=SETTINGS, workers=0)
    boxel.train(root / "work", root / "run", recipe=RECIPE, overrides=SETTINGS)
    boxel.predict(root / "run", root / "data" / "imagesTs", root / "predictions")
    return root


def test_a_node_that_is_lost_with_a_case_changes_no_file(root, tmp_path):
    """It is killed at its third image, which another node then predicts; a damaged image stops no other."""
    pytest.importorskip("ray", reason="the extra boxel[ray] is not installed")
    images = root / "data" / "imagesTs"
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "a.mha").write_bytes(b"no image")
    good = shutil.copy(min(images.iterdir()), tmp_path / "damaged")
    words = [root / "run", images, tmp_path / "out", tmp_path / "damaged"]
    program = [sys.executable, "-m", "tests.end_to_end.lost_node", "predict", *map(str, words)]
    result = subprocess.run(program, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    steps = [line for line in lines if line.startswith(("predict ", "a worker was lost with case"))]
    assert steps == [
        *(f"predict {done} 6" for done in range(3)),
        "a worker was lost with case 'test_00002'",
        *(f"predict {done} 6" for done in range(3, 7)),
    ], result.stdout  # a busy machine may lose workers without a case, too, which start again
    assert (tmp_path / "out_lost" / "reached").exists()
    assert contents(tmp_path / "out") == contents(root / "predictions")
    (number,) = [number for number, line in enumerate(lines) if line.startswith("refused: 1 of 2 images")]
    assert lines[number + 1].startswith(f"{tmp_path / 'damaged' / 'a.mha'}: ")
    assert [path.stem for path in (tmp_path / "out_damaged").glob("*.json")] == [Path(good).stem]

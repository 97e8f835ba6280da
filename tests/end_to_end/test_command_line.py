"""Options that every verb has, files of settings, and messages about devices."""

import json
import re
import subprocess
import sys

import pytest

import boxel
from boxel.recipes import get_recipe
from tests.end_to_end import commands
from tests.end_to_end.commands import RECIPE, refused


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("words")
    boxel.make_toy(root / "data", num_train=4, num_val=2, num_test=1, size=64)
    commands.boxel("prepare", root / "data", "--out", root / "work", *RECIPE)
    commands.boxel("train", root / "work", "--out", root / "run", *RECIPE)
    return root


def test_the_program_says_its_version_and_helps_with_completion():
    assert commands.boxel("--version").stdout == f"boxel {boxel.__version__}\n"
    text = commands.boxel("-h").stdout
    assert "--install-completion" in text
    assert "--show-completion" in text
    assert "<bool>" not in text + commands.boxel("experiment", "run", "-h").stdout


def test_messages_do_not_end_among_the_results_if_standard_error_is_closed(tmp_path):
    command = f"exec 2>&-; {sys.executable} -m boxel check {tmp_path / 'nowhere'}"
    end = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (end.returncode, end.stdout) == (2, "")


def test_a_recipe_is_a_file_that_prepare_and_train_take(root, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(commands.boxel("config", *RECIPE).stdout)
    recipe = get_recipe(mine)
    assert recipe == get_recipe("retina_unet_small").override(RECIPE[3::2])
    mine.write_text(mine.read_text().replace("  steps: 8\n", "  steps: 6\n"))
    work, run = tmp_path / "work", tmp_path / "run"
    commands.boxel("prepare", root / "data", "--out", work, "--recipe", mine, "--workers", 0)
    assert json.loads((work / "prepared_with.json").read_text())["given"]["train"]["steps"] == 6
    commands.boxel("train", work, "--out", run, "--recipe", mine, "--device", "cpu")
    trained = json.loads((run / "config.json").read_text())["train"]
    assert (trained["steps"], trained["accelerator"]) == (6, "cpu")
    assert "learning rate" in commands.boxel("config", "--explain", "train.lr").stdout


def test_a_run_with_other_settings_or_cases_names_them(root):
    words = ("train", root / "work", "--out", root / "run", *RECIPE)
    refused(*words, "--set", "train.lr=0.5", says="choices or data, now train.lr 0.5 instead of 0.002; resume it with")
    refused(*words, "--set", "train.schedule=cosine", says='train.schedule.type "cosine" instead of "poly"')
    split = root / "run" / "split.json"
    before = split.read_text()
    values = json.loads(before)
    dropped = values["train"].pop()
    split.write_text(json.dumps(values))
    refused(*words, says=f'split.json: this run was started with other choices or data, now train ["{dropped}"]')
    split.write_text(before)


@pytest.mark.parametrize("device", ["cuda", "mps", "gpu"])
def test_a_device_that_is_absent_is_one_message_and_leaves_nothing(root, tmp_path, device, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    train, out = ("train", root / "work", "--out", tmp_path / "new", *RECIPE), ("--out", tmp_path / "new")
    refused(*train, "--device", device, says=f"train.accelerator={device}")
    refused(*train, "--set", f"train.accelerator={device}", says="finds 0 such devices on this machine")
    predict = ("predict", root / "run", root / "data", *out, "--device")
    refused(*predict, device, says=f"device {device!r}: torch")
    refused("demo", "--data", root / "data", *out, *RECIPE, "--device", device, says=f"train.accelerator={device}")
    with pytest.raises(ValueError, match=f"device '{device}': torch .* finds 0 such devices"):
        boxel.load(root / "run", device=device)
    refused("predict", root / "run", root / "data", *out, "--device", "tpu", says="choose auto, cpu, cuda or mps")
    refused(
        "predict", root / "run", root / "data", *out, "--device", "cpu", "--ray", "local", says="no effect with --ray"
    )
    refused(*train, "--dry-run", "--logger", "wandb", says="--logger has no effect with --dry-run")
    assert not (tmp_path / "new").exists()


def test_a_repeated_prediction_says_what_it_reuses_and_counts_one_image_as_one(root, tmp_path):
    words = ("predict", root / "run", root / "data" / "imagesTs", "--out", tmp_path / "p", "--device", "cpu")
    assert commands.boxel(*words).stdout == f"predicted 1 image in {tmp_path / 'p'}\n"
    assert "1 of 1 image was predicted before and is reused" in commands.boxel(*words).stderr


def test_an_impossible_threshold_is_refused_by_its_name_on_the_command_line_before_any_work(root, tmp_path):
    words = ("evaluate", tmp_path / "nothing", root / "data", "--out", tmp_path / "e")
    refused(*words, "--iou", 50, says="boxel: --iou of box_iou must be at most 1, got 50.0")
    p = tmp_path / "foreign"
    p.mkdir()
    (p / "a.json").write_text("[]")
    refused("evaluate", p, root / "data", "--out", p, says="holds a.json, which `boxel evaluate` did not write there")


def test_a_message_about_an_unknown_key_names_the_nearest_alone(root):
    said = refused("train", root / "work", *RECIPE, "--set", "train.stepz=3", says="did you mean 'steps'?")
    assert re.search(r"The nearest of \d+: steps, (\w+, ){3}\w+$", said.strip())

"""What a training and other long commands say: in a file, on a terminal, when they are interrupted."""

import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

import boxel
from boxel.api import conversion, prediction
from boxel.cli import progress
from boxel.preparation import prepare
from tests.end_to_end import commands
from tests.end_to_end.commands import RECIPE, contents, refused, set_words
from tests.forks import Command

LONG = (*RECIPE, *set_words(["train.steps=4000", "train.validate_every=2", "train.warmup=0"]))
STEP = r"loss [\d.]+, lr [\d.e-]+, AP@0\.10 [\d.]+ \(best [\d.]+\), [\d.]+ steps/s, cpu, "


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Toy data, prepared; a run."""
    root = tmp_path_factory.mktemp("terminal")
    boxel.make_toy(root / "data", num_train=4, num_val=2, num_test=2, size=64)
    commands.boxel("prepare", root / "data", "--out", root / "work", *RECIPE)
    commands.boxel("train", root / "work", "--out", root / "run", *RECIPE)
    return root


def test_a_training_whose_output_is_a_file_writes_lines(root, tmp_path):
    steps = set_words(["train.steps=12", "train.validate_every=6"])
    end = commands.boxel("train", root / "work", "--out", tmp_path / "run", *RECIPE, *steps)
    first, *rest = end.stderr.splitlines()
    assert re.fullmatch(rf"training {tmp_path}/run on cpu: 12 steps; the run takes [\d.]+ MiB on the disk", first)
    assert re.match(r"train 1/12, loss [\d.]+, lr ", rest[0])
    assert any(re.match(r"train 6/12, .* s left, " + STEP, line) for line in rest)
    assert any(
        re.fullmatch(
            r"estimate: time .* for 2 steps of .* s, besides 1 validation; memory [\d.]+ MiB; disk [\d.]+ MiB", line
        )
        for line in rest
    )
    assert any(re.match(r"train 12/12, " + STEP, line) for line in rest)
    assert "\r" not in end.stderr
    assert "\x1b" not in end.stderr


def test_lines_come_at_the_start_every_thirty_seconds_and_at_the_end(capsys, monkeypatch):
    now = iter([0.0, 1.0, 31.0, 31.0, 32.0, 61.5, 61.5, 70.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    display = progress.Display()
    for done in (0, 1, 2, 3, 4, 5):
        display("preparing", done, 5)
    assert capsys.readouterr().err.splitlines() == [
        "preparing 0/5", "preparing 2/5, 46.5 s left", "preparing 4/5, 15.4 s left", "preparing 5/5",
    ]  # fmt: skip


def test_a_dry_run_says_what_a_training_takes_and_writes_nothing(root, tmp_path):
    before = contents(root)
    end = commands.boxel("train", root / "work", "--out", tmp_path / "run", *LONG, "--dry-run")
    assert re.fullmatch(
        r"time .* for 4,000 steps of .* s and 2,000 validations of .* s; memory [\d.]+ MiB; disk [\d.]+ MiB",
        end.stdout.strip(),
    )
    assert "measuring what a training step takes" in end.stderr
    assert not (tmp_path / "run").exists()
    assert contents(root) == before
    refused(
        "train", root / "work", "--out", root / "run", *RECIPE, "--set", "train.lr=0.5", "--dry-run",
        says="now train.lr 0.5 instead of 0.002;",
    )  # fmt: skip


def test_an_interrupted_training_says_where_it_resumes(root, tmp_path):
    run = tmp_path / "run"
    command = Command("train", root / "work", "--out", run, *LONG)
    while not (run / "resume.safetensors").exists():
        assert not command.poll(), command.wait()
        time.sleep(0.01)
    command.interrupt()
    end = command.wait()
    assert end.returncode == 130
    said = re.search(r"boxel: interrupted at step (\d+); rerun the command to resume from step (\d+)\n$", end.stderr)
    assert said
    step, saved = map(int, said.groups())
    assert step - saved in (0, 1)
    assert "Traceback" not in end.stderr
    again = Command("train", root / "work", "--out", run, *LONG)
    time.sleep(0.2)
    while len((run / "metrics.jsonl").read_text().splitlines()) <= step + 1 and not again.poll():
        time.sleep(0.01)
    again.kill()
    assert f"resumed after step {saved}" in again.wait().stderr


def test_a_terminal_shows_a_live_line_and_takes_ctrl_c(root, tmp_path):
    master, slave = os.openpty()
    command = Command("train", root / "work", "--out", tmp_path / "run", *LONG, terminal=os.ttyname(slave))
    os.set_blocking(master, False)
    said, sent = "", False
    while not command.poll():
        time.sleep(0.01)
        try:
            said += os.read(master, 65536).decode(errors="replace")
        except BlockingIOError:
            continue
        if not sent and "(best" in said and "steps/s" in said:
            sent = os.write(master, b"\x03") == 1
    assert command.wait().returncode == 130
    with suppress(OSError):
        said += os.read(master, 65536).decode(errors="replace")
    os.close(master)
    os.close(slave)
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", said)
    assert re.search(r"train +━+.*\d+/4000", text)
    assert re.search(STEP, " ".join(text.split()))
    assert "interrupted at step" in text


@pytest.mark.parametrize(
    ("verb", "place", "name", "says"),
    [
        ("prepare", prepare, "store_case", r"interrupted at preparing \d+/8; cases that are done are kept; rerun"),
        ("predict", prediction, "predict_case", r"interrupted at predict 0/2; images that are done are kept; rerun"),
        ("convert", conversion, "recognise", r"interrupted; rerun the command"),
    ],
)
def test_other_commands_say_what_is_kept(root, tmp_path, monkeypatch, verb, place, name, says):
    monkeypatch.setattr(place, name, lambda *_, **__: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    words = {
        "prepare": ("prepare", root / "data", "--out", tmp_path / "out", *RECIPE, "--workers", 0),
        "predict": ("predict", root / "run", root / "data" / "imagesTs", "--out", tmp_path / "out"),
        "convert": ("convert", root / "data", "--to", "csv", "--out", tmp_path / "out"),
    }
    try:
        said = refused(*words[verb], says="rerun the command", status=130)
    finally:
        signal.signal(signal.SIGINT, before)
    assert re.search(says, said)

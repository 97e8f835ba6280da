"""A command that was killed, or met a full disk, is run again: the result is that of one run, and nothing is left over.

`BOXEL_KILL_SEED` draws other moments.
"""

import os
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.commands import QUICK, set_words
from tests.forks import End, run

pytestmark = pytest.mark.xdist_group("kill")  # its inputs are made once
SEED = int(os.environ.get("BOXEL_KILL_SEED", "0"))
SETTINGS = ["--recipe", "retina_unet_small", *set_words([*QUICK, "train.steps=4", "train.validate_every=2"])]
# The words of each command that writes, with `{o}` for its output.
COMMANDS = {
    "toy": "toy --out {o} --ndim 2 --size 48 --train 3 --val 1 --test 2",
    "prepare": f"prepare {{base}}/data --out {{o}} --workers 0 {' '.join(SETTINGS)}",
    "train": f"train {{base}}/work --out {{o}} {' '.join(SETTINGS)}",
    "predict": "predict {base}/run {base}/data --out {o} --segmentation --to csv",
    "ensemble": "predict {base}/run {base}/data/imagesTs --with {base}/other --out {o}",
    "consolidate": "consolidate {base}/predictions --out {o} --set consolidate.method=nms",
    "evaluate": "evaluate {base}/predictions {base}/data --out {o} --resamples 10",
    "convert": "convert {base}/predictions --to nifti --out {o}",
    "preview": "convert {base}/predictions --to preview --out {o}",
    "report": "report {base}/run --predictions {base}/predictions --dataset {base}/data --out {o}/page.html",
    "fix": "check {base}/data --fix {o}",
    "pictures": "check {base}/data --preview 2 --html --out {o}",
    "experiment": "experiment run cross_validation --data {base}/folds --out {o} --jobs 0 --only fold=0 "
    + " ".join(set_words(setting for setting in QUICK if "backbone" not in setting)),
    "compare": "compare {base}/predictions {base}/predictions {base}/data --resamples 10 --out {o}/table.json",
}
# Of the files that tell how long something took only the rest must be the same.
RESULTS = ("metrics.json", "weights.safetensors", "detections.json", "resamples.npz")
TIMES = re.compile(rb'"(seconds|started|finished|time|date|duration)[a-z_]*": [^,}\n]+')


@dataclass(frozen=True)
class Inputs:
    """A data set and what was made from it, in the folder `base`; each command that nothing interrupted, when asked."""

    base: Path
    changes: dict[str, int] = field(default_factory=dict)

    def run(self, text: str, out: Path, **stop: Any) -> End:
        """Run a command with the output `out`."""
        if "{o}/" in text:
            out.mkdir(exist_ok=True)
        return run(*(word.format(base=self.base, o=out) for word in text.split()), folder=str(out), **stop)

    def must_run(self, text: str, out: Path) -> End:
        end = self.run(text, out)
        assert end.returncode == 0, end
        return end

    def whole(self, name: str) -> Path:
        """The output of a command that nothing interrupted."""
        out = self.base / "whole" / name
        if name not in self.changes:
            out.parent.mkdir(exist_ok=True)
            self.changes[name] = self.must_run(COMMANDS[name], out).changes
        return out


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Inputs:
    inputs = Inputs(tmp_path_factory.mktemp("base"))
    make_inputs(inputs)
    return inputs


def make_inputs(inputs: Inputs) -> None:
    for name, out in (("toy", "data"), ("prepare", "work"), ("train", "run")):
        inputs.must_run(COMMANDS[name], inputs.base / out)
    inputs.must_run("toy --out {o} --ndim 2 --size 48 --train 5 --val 0 --test 0", inputs.base / "folds")
    inputs.must_run(f"{COMMANDS['train']} --set seed=1", inputs.base / "other")
    predict = "predict {base}/run {base}/data/imagesTs --out {o} --segmentation"
    inputs.must_run(predict, inputs.base / "predictions")


def results(folder: Path) -> dict[str, bytes]:
    """Every file of an output, hidden ones too, without times, the path of the folder, and who held a lock.

    Of an experiment, which tells what it cost in many places, only the content of its results is compared.
    """
    content: dict[str, bytes] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink()):
        name = str(path.relative_to(folder))
        known = "lock" not in path.name and (folder.name != "experiment" or path.name in RESULTS)
        content[name] = TIMES.sub(b"", path.read_bytes()).replace(str(folder).encode(), b"OUT") if known else b""
    return content


def different(name: str, out: Path, inputs: Inputs) -> list[str]:
    """The files that only one of the outputs has, and those with another content."""
    found, expected = results(out), results(inputs.whole(name))
    return sorted(file for file in found.keys() | expected.keys() if found.get(file) != expected.get(file))


def kill(inputs: Inputs, folder: Path, number: int) -> str:
    """Kill a drawn command at a drawn moment and run it again; what is wrong then, or empty."""
    draw = random.Random(f"{SEED}:{number}")
    name = draw.choice(sorted(COMMANDS))
    out = folder / str(number) / name
    out.parent.mkdir()
    inputs.whole(name)
    at = draw.randrange(inputs.changes[name])
    first, again = inputs.run(COMMANDS[name], out, kill_at=at), inputs.run(COMMANDS[name], out)
    wrong = "" if first.returncode == -signal.SIGKILL else f"was not killed: {first}"
    wrong = wrong or after(name, out, inputs, again)
    shutil.rmtree(out.parent)
    return wrong and f"{SEED}:{number} {name} killed before change {at} of {inputs.changes[name]}: {wrong}"


def fill(inputs: Inputs, folder: Path, number: int) -> str:
    """Run a drawn command on a disk that becomes full, then on one with room; what is wrong, or empty."""
    draw = random.Random(f"{SEED}:full:{number}")
    name = draw.choice(sorted(COMMANDS))
    needed = sum(4096 * (1 + path.stat().st_size // 4096) for path in inputs.whole(name).rglob("*"))
    size = 4096 * max(2, int(draw.uniform(0.1, 0.9) * needed) // 4096)
    disk = folder / f"disk_{number}"
    disk.mkdir()
    mount(disk, size)
    try:
        first = inputs.run(COMMANDS[name], disk / name)
        mount(disk, 2**30, "remount")
        wrong = after(name, disk / name, inputs, inputs.run(COMMANDS[name], disk / name))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    messages = re.findall("^boxel: (?!warning: )", first.stderr, flags=re.MULTILINE)
    status = 1 if name == "experiment" else 2  # a cell that fails does not stop the others
    if first.returncode != status or len(messages) != 1:
        wrong = f"not one message and exit status {status}: {first} {wrong}"
    return wrong and f"{SEED}:full:{number} {name} on a disk of {size} of {needed} bytes: {wrong}"


def after(name: str, out: Path, inputs: Inputs, again: End) -> str:
    """What is wrong when a command was run again; or empty."""
    if again.returncode != 0:
        return f"does not continue: {again.stderr[-300:]}"
    wrong = different(name, out, inputs)
    return f"differs in {', '.join(wrong)}" if wrong else ""


def mount(folder: Path, size: int, *options: str) -> None:
    how = ",".join([*options, f"size={size}"])
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")


def faults(of: Callable[[Inputs, Path, int], str], inputs: Inputs, folder: Path, count: int) -> str:
    return "\n".join(fault for number in range(count) if (fault := of(inputs, folder, number)))


def test_a_killed_command_continues_and_ends_the_same(inputs, tmp_path):
    assert not faults(kill, inputs, tmp_path, 10)


def test_a_full_disk_is_told_and_the_command_continues_when_there_is_room(inputs, tmp_path):
    assert not faults(fill, inputs, tmp_path, 2)


@pytest.mark.slow
def test_a_hundred_killed_commands_continue_and_end_the_same(inputs, tmp_path):
    assert not faults(kill, inputs, tmp_path, 100)


@pytest.mark.slow
def test_twenty_full_disks_are_told_and_the_commands_continue(inputs, tmp_path):
    assert not faults(fill, inputs, tmp_path, 20)

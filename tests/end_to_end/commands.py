"""Commands as a user types them, on tiny data."""

import io
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import pytest

from boxel.cli import main
from tests.forks import Command, End, run

QUICK = [
    "train.steps=8", "train.validate_every=4", "train.save_every=2", "train.batch_size=2", "train.num_workers=0",
    "model.backbone.start_filters=4", "model.backbone.depth=10", "predict.views=identity",
]  # fmt: skip


def set_words(settings: Iterable[str]) -> list[str]:
    """`--set` before each setting."""
    return [word for setting in settings for word in ("--set", setting)]


RECIPE = ["--recipe", "retina_unet_small", *set_words(QUICK)]


def boxel(*words: object, check: bool = True) -> End:
    end = run(*words)
    if check and end.returncode != 0:
        raise AssertionError(f"boxel {words}: exit {end.returncode}\n{end.stdout}\n{end.stderr}")
    return end


def program(*words: object) -> str:
    """The output of a command that is a program of its own: for those that start themselves again, or compile."""
    command = [sys.executable, "-m", "boxel", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def kill_when(path: Path, pattern: str, *words: object) -> None:
    """Start a verb and SIGKILL it as soon as a file matching `pattern` appears below `path`."""
    command = Command(*words)
    while not list(path.glob(pattern)):
        if command.poll():
            raise AssertionError(f"boxel {words} ended before {pattern} appeared in {path}: {command.wait()}")
        time.sleep(0.005)
    command.kill()
    command.wait()


def contents(folder: Path, pattern: str = "**/*", without: tuple[str, ...] = (".boxel",)) -> dict[str, bytes]:
    """The files; the record of which command wrote them is not a result."""
    files = (path for path in sorted(folder.glob(pattern)) if path.is_file() and path.name not in without)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def refused(*words: object, says: str, status: int = 2) -> str:
    """The standard error of a verb that ends like this.

    It runs in this process, since there are dozens of these and most of their time would go into imports.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["boxel", *map(str, words)]),
        redirect_stdout(out),
        redirect_stderr(err),
        warnings.catch_warnings(action="default"),  # as outside of tests
        pytest.raises(SystemExit) as end,
    ):
        main()
    assert end.value.code == status, out.getvalue() + err.getvalue()
    assert says in err.getvalue().replace("\n", " ")
    assert "Traceback" not in err.getvalue()
    return err.getvalue()

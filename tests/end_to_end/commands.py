"""Commands as a user types them, on tiny data."""

import io
import json
import os
import signal
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

QUICK = [
    "train.steps=8", "train.validate_every=4", "train.save_every=2", "train.batch_size=2", "train.num_workers=0",
    "model.backbone.start_filters=4", "model.backbone.depth=10", "predict.views=identity",
]  # fmt: skip


def set_words(settings: Iterable[str]) -> list[str]:
    """`--set` before each setting."""
    return [word for setting in settings for word in ("--set", setting)]


RECIPE = ["--recipe", "retina_unet_small", *set_words(QUICK)]


def boxel(*words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [sys.executable, "-m", "boxel", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if check and result.returncode != 0:
        raise AssertionError(f"boxel {words}: exit {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result


def kill_when(path: Path, pattern: str, *words: object) -> None:
    """Start a verb and SIGKILL it as soon as a file matching `pattern` appears below `path`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "boxel", *map(str, words)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(path.glob(pattern)):
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"boxel {words} ended with {process.poll()} before {pattern} appeared in {path}")
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def contents(folder: Path, pattern: str = "**/*", without: tuple[str, ...] = (".boxel",)) -> dict[str, bytes]:
    """The files; the record of which command wrote them is not a result."""
    files = (path for path in sorted(folder.glob(pattern)) if path.is_file() and path.name not in without)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def refused(*words: object, says: str) -> None:
    """The verb runs in this process, since there are dozens of these and most of their time would go into imports."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["boxel", *map(str, words)]),
        redirect_stdout(out),
        redirect_stderr(err),
        warnings.catch_warnings(action="default"),  # as outside of tests
        pytest.raises(SystemExit) as end,
    ):
        main()
    assert end.value.code == 2, out.getvalue() + err.getvalue()
    assert says in err.getvalue().replace("\n", " ")
    assert "Traceback" not in err.getvalue()

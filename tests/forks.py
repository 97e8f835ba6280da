"""Commands in forks of one process that has everything imported, which would take most of the time of each.

A fork has its own folder, environment, output and session, and ends as the program would.
"""

import atexit
import json
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

SECONDS = 300
WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class End:
    """How a command ended.

    Attributes:
        returncode: its exit status; minus the number of the signal that ended it.
        stdout: standard output.
        stderr: standard error.
        changes: how many changes of the counted folder it made or was about to make.
    """

    returncode: int
    stdout: str
    stderr: str
    changes: int


class Command:
    """A command that runs: `boxel WORDS`, or with `script` that Python file; in the folder of this process."""

    def __init__(self, *words: object, script: Path | None = None, terminal: str = "", **count: Any) -> None:
        """Start it.

        Args:
            words: of the command line.
            script: what runs instead of `boxel`.
            terminal: the terminal (`os.ttyname`) that it has instead of files; `End` is then without its output.
            count: see `tests.kill.moments.count_changes`.
        """
        self._folder = tempfile.TemporaryDirectory()
        given = {
            "argv": [str(script or "boxel"), *map(str, words)], "is_script": bool(script), "count": count,
            "cwd": os.getcwd(), "environment": dict(os.environ), "files": self._folder.name,
            "terminal": terminal,
        }  # fmt: skip
        server = _server()
        server.stdin.write(json.dumps(given) + "\n")
        server.stdin.flush()
        self.pid = int(server.stdout.readline())

    def poll(self) -> bool:
        """Whether it has ended."""
        return (Path(self._folder.name) / "status").exists()

    def kill(self) -> None:
        """End it and what it started."""
        os.killpg(self.pid, signal.SIGKILL)

    def interrupt(self) -> None:
        """Send it the signal of Ctrl-C."""
        os.kill(self.pid, signal.SIGINT)

    def wait(self) -> End:
        """Its end; a command that takes more than `SECONDS` is killed."""
        while not self.poll():
            time.sleep(0.005)
        said = {file.name: file.read_text(errors="replace") for file in Path(self._folder.name).iterdir()}
        self._folder.cleanup()
        return End(int(said["status"]), said.get("stdout", ""), said.get("stderr", ""), int(said.get("changes", 0)))


def run(*words: object, **options: Any) -> End:
    """Run a command, see `Command`."""
    return Command(*words, **options).wait()


@cache
def _server() -> "subprocess.Popen[str]":
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.forks"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip

    def close() -> None:
        server.stdin.close()
        server.wait(60)
        server.stdout.close()

    atexit.register(close)
    return server


def _serve() -> None:
    """Fork for each line of standard input, and answer with the number of the process that is the command."""
    replies = os.dup(1)
    os.dup2(2, 1)
    _import()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for the commands
    for line in sys.stdin:
        if os.fork():
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        given = json.loads(line)
        if not (child := os.fork()):
            os.setsid()
            os.write(replies, f"{os.getpid()}\n".encode())
            os.close(replies)
            return _become(given)
        os.close(replies)
        status = Path(given["files"]) / "status"
        status.with_suffix(".new").write_text(str(_end(child)))
        status.with_suffix(".new").rename(status)
        os._exit(0)
    return None


def _end(child: int) -> int:
    """The exit status of the child, when it has ended."""
    limit = time.monotonic() + SECONDS
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > limit:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.002)


def _become(given: dict[str, Any]) -> None:
    """Make this process the command."""
    import numpy as np
    import torch

    for seed in (random.seed, np.random.seed, torch.seed):  # what is not seeded differs, as between programs
        seed()
    os.chdir(given["cwd"])
    os.environ.clear()
    os.environ.update(given["environment"])
    files = Path(given["files"])
    streams = (os.devnull, os.O_RDONLY), (files / "stdout", WRITE), (files / "stderr", WRITE)
    if given["terminal"]:
        streams = ((given["terminal"], os.O_RDWR),) * 3
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in the background, it is ignored
    for number, (path, flags) in enumerate(streams):
        file = os.open(path, flags)
        os.dup2(file, number)
        os.close(file)
    sys.argv = given["argv"]
    if given["count"]:
        from tests.kill.moments import count_changes

        number = count_changes(**given["count"])
        atexit.register(lambda: (files / "changes").write_text(str(number[0])))
    if given["is_script"]:
        sys.path.insert(0, str(Path(sys.argv[0]).parent))
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        from boxel.cli import main

        main()


def _import() -> None:
    import torch

    from boxel.experiments.executors.processes import _PRELOAD

    for module in (*_PRELOAD, "boxel.api.prediction", "boxel.api.reporting", "boxel.datasets.quality.repair"):
        import_module(module)
    torch.set_num_threads(1)  # none of its threads may exist where the process forks


if __name__ == "__main__":
    _serve()

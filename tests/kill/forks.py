"""Commands in forks of one process that has everything imported, stopped at a chosen moment.

The moments are those at which a command changes the folder in question: before it opens a file to write, renames,
links, removes or makes something there. They are counted, so that a seed repeats them.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.worker import answer

SECONDS = 300
CHANGES = {
    "os.rename": 2,
    "os.link": 2,
    "os.symlink": 2,
    "os.remove": 1,
    "os.mkdir": 1,
    "os.rmdir": 1,
    "os.truncate": 1,
}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class End:
    """How a command ended.

    Attributes:
        status: its exit status; None if it was killed, or ended with a traceback.
        fault: the traceback, or empty.
        err: standard error.
        changes: how many changes of the folder it made or was about to make.
    """

    status: int | None
    fault: str = ""
    err: str = ""
    changes: int = 0


class Forks:
    """The process that forks."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.kill.forks"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2], start_new_session=True,
        )  # fmt: skip

    def run(self, *words: object, folder: Path, kill_at: int | None = None, seconds: float | None = None) -> End:
        """Run a command; kill it at its change `kill_at` of what is below the folder, or after so many seconds."""
        given = {"words": [str(word) for word in words], "folder": str(folder), "kill_at": kill_at, "seconds": seconds}
        self.process.stdin.write(json.dumps(given) + "\n")
        self.process.stdin.flush()
        return End(**json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


def count_changes(folder: str, kill_at: int | None) -> list[int]:
    """The number of changes so far, in a list of one; the process is killed before change `kill_at`."""
    number = [0]

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            paths = (path,) if isinstance(flags, int) and flags & WRITES else ()
        else:
            paths = args[: CHANGES.get(event, 0)]
        if any(isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(folder) for path in paths):
            if number[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            number[0] += 1

    sys.addaudithook(hook)
    return number


def fork(given: dict[str, Any]) -> End:
    """Run the command in a child, and wait for its end."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        os.close(receive)
        os.setsid()
        number = count_changes(given["folder"], given["kill_at"])
        reply = answer(given["words"])
        with os.fdopen(send, "w") as file:
            json.dump(
                {"status": reply["status"], "fault": reply["fault"], "err": reply["err"], "changes": number[0]}, file
            )
        os._exit(0)
    os.close(send)
    limit = time.monotonic() + (given["seconds"] or SECONDS)
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > limit:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.002)
    with os.fdopen(receive) as file:
        text = file.read()
    return End(**json.loads(text)) if text else End(None, err=f"killed {given}")


def serve() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import torch

    import boxel.api.consolidation
    import boxel.api.conversion
    import boxel.api.evaluation
    import boxel.api.prediction
    import boxel.api.reporting
    import boxel.api.training
    import boxel.datasets.quality.repair  # noqa: F401

    torch.set_num_threads(1)  # none of its threads may exist where the process forks
    for line in sys.stdin:
        replies.write(json.dumps(vars(fork(json.loads(line)))) + "\n")
        replies.flush()


if __name__ == "__main__":
    serve()

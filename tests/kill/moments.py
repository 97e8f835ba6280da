"""The moments at which a command changes a folder, counted, so that a seed repeats them.

They are before it opens a file to write, renames, links, removes or makes something there.
"""

import os
import signal
import sys
from typing import Any

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


def count_changes(folder: str, kill_at: int | None = None) -> list[int]:
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

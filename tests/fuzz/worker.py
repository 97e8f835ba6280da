"""A process that runs commands of Boxel one after the other, so that what dies, hangs or grows is not the test.

As a program it reads the words of a command from each line of standard input, JSON, and answers with a line of JSON.
"""

import io
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

SECONDS, GIGABYTES = 20, 2
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        status: its exit status; None if it ended in another way.
        fault: what it must never do: a traceback, an abort, more time or memory than allowed; or empty.
        out: standard output.
        err: standard error.
    """

    status: int | None
    fault: str = ""
    out: str = ""
    err: str = ""


class Worker:
    """Runs commands; started again when one of them ends it."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.process: subprocess.Popen[str] | None = None

    def run(self, *words: object) -> Outcome:
        process = self.process = self.process or self._start()
        process.stdin.write(json.dumps([str(word) for word in words]) + "\n")
        process.stdin.flush()
        began, moved, before = _cpu(process.pid), time.monotonic(), _cpu(process.pid)
        while not select.select([process.stdout], [], [], 0.25)[0]:
            now = _cpu(process.pid)
            if now > before + 0.05:
                moved, before = time.monotonic(), now
            if now > began + SECONDS or time.monotonic() > moved + SECONDS:
                busy = f"more than {SECONDS} s of work" if now > began + SECONDS else f"waits for {SECONDS} s"
                self.close()
                return Outcome(None, f"hang: {busy}")
        answer = process.stdout.readline()
        if not answer:
            status = process.wait()
            self.close()
            return Outcome(None, f"abort: ended with {status}", err=self.log.read_text(errors="replace")[-2000:])
        outcome = Outcome(**json.loads(answer))
        if "memory" in outcome.fault.lower():  # what was taken is not given back
            self.close()
        return outcome

    def close(self) -> None:
        if self.process:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None

    def _start(self) -> "subprocess.Popen[str]":
        with self.log.open("w") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
                cwd=Path(__file__).parents[2],
            )  # fmt: skip


def _cpu(pid: int) -> float:
    """Seconds of processor time of a process and of the children it has waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS


def _kilobytes(name: str) -> int:
    """What the system counts of this process: VmRSS now, VmHWM its peak, VmData what may be written."""
    rows = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return next(int(row[1]) for row in rows if row[0] == f"{name}:")


def answer(words: Sequence[str]) -> dict[str, object]:
    """Run a command in this process. No handler but those of the command line itself stands between it and a fault."""
    from boxel.cli import main

    out, err, fault, status = io.StringIO(), io.StringIO(), "", 0
    Path("/proc/self/clear_refs").write_text("5")  # the peak of the memory starts anew
    before = _kilobytes("VmRSS")
    with mock.patch.object(sys, "argv", ["boxel", *words]), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException as error:
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/boxel/" in frame.filename]
            where = f"{frames[-1].filename.rpartition('/boxel/')[2]}:{frames[-1].lineno}" if frames else "?"
            fault, status = f"traceback: {type(error).__name__}: {error!s:.200} ({where})", None
    taken = (_kilobytes("VmHWM") - before) / 2**20
    fault = fault or (f"memory: {taken:.1f} GB" if taken > GIGABYTES else "")
    return {"status": status, "fault": fault, "out": out.getvalue()[-20_000:], "err": err.getvalue()[-20_000:]}


def serve() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what native code prints goes to the log
    import torch

    import boxel.api.prediction
    import boxel.api.training  # noqa: F401

    torch.set_num_threads(1)
    limit = _kilobytes("VmData") * 1024 + int(1.5 * GIGABYTES * 2**30)  # room for what is reserved but never used
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    for line in sys.stdin:
        replies.write(json.dumps(answer(json.loads(line))) + "\n")
        replies.flush()


if __name__ == "__main__":
    serve()

"""Foreign decoders (ITK, pillow, imagecodecs, GDCM) run in processes of their own, since a damaged file may end them.

The death of such a process, its hang or its greed for memory is an error that names the file. A process serves one
thread at a time and is used again. Results come back through a pipe: unlike shared memory it needs no space that a
container may lack, and leaves nothing behind. The processes are started by a command, not forked, so that they work on
all systems alike, in threads, and without a guarded main module.
"""

import atexit
import contextlib
import faulthandler
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from boxel.io import claims

__all__ = ["apart", "now_reading"]

P = ParamSpec("P")
R = TypeVar("R")
DIRECTLY = "BOXEL_READ_DIRECTLY"  # if set, everything runs in the calling process, for debuggers
START = "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from boxel.io.apart import serve; serve()"
SECONDS, BYTES_PER_SECOND = 60, 1 << 20  # of a call, and the slowest disk that is waited for
ROOM, TIMES = 1 << 30, 20  # bytes beyond those at the start of a call, or times what a checked header claims
NAMED = b"\nreading "
PIPE = 1 << 20


class _Reader:
    """A process that runs one function at a time."""

    def __init__(self) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
            env={**os.environ, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}, pipesize=PIPE,
        )  # fmt: skip
        self.requests: Any = self.process.stdin
        self.replies: Any = self.process.stdout
        try:
            self._send(sys.path)
            self._receive()
        except (OSError, EOFError):
            lines = self.end().decode(errors="replace").strip().splitlines() or [""]
            raise RuntimeError(f"the process that reads images did not start: {lines[-1]}") from None

    def ask(self, path: Path, seconds: float, call: tuple[Any, ...]) -> Any:
        """The result of a call; raises ValueError that names a file if the process ends before."""
        began = time.monotonic()
        try:
            self._send((seconds, call))
            failed, result = self._receive()
        except (OSError, EOFError, pickle.UnpicklingError):
            raise self._death(path, seconds if time.monotonic() - began >= seconds else 0) from None
        if failed:
            raise result
        return result

    def _send(self, content: object) -> None:
        pickle.dump(content, self.requests)
        self.requests.flush()

    def _receive(self) -> tuple[bool, Any]:
        failed, sizes = pickle.load(self.replies)
        parts = [np.empty(size, np.uint8) for size in sizes]
        for part in parts:
            if self.replies.readinto(part) != len(part):
                raise EOFError
        return failed, pickle.loads(parts[0].data, buffers=parts[1:])

    def _death(self, path: Path, seconds: float) -> ValueError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        _, note, named = self.end().rpartition(NAMED)
        file = os.fsdecode(named.split(b"\n")[0]) if note else path
        status = self.process.returncode
        how = f"exit status {status}" if status >= 0 else signal.strsignal(-status)
        problem = f"was not read within {seconds:.0f} s" if seconds else f"ended the process that read it ({how})"
        return ValueError(f"{file}: this file {problem}; copy or export it again")

    def end(self) -> bytes:
        """End the process, whatever it does; returns what it printed."""
        self.process.kill()
        self.process.wait()
        self.log.seek(0)
        printed = self.log.read()
        for stream in (self.requests, self.replies, self.log):
            with contextlib.suppress(OSError):
                stream.close()
        return printed


_idle: list[_Reader] = []
_inside = False  # whether this is such a process


def apart(path: Path, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function in another process.

    Args:
        path: the file or folder that it reads; named if the process ends or hangs. The time limit grows with its size.
        function: at the top level of a module; arguments and result can be pickled.

    Raises:
        ValueError: as the function, or the process did not survive.
        RuntimeError: the function raised another exception; with its message.
    """
    if _inside or os.environ.get(DIRECTLY):
        return function(*args, **kwargs)
    files = path.iterdir() if path.is_dir() else [path]
    seconds = SECONDS + sum(file.stat().st_size for file in files if file.is_file()) / BYTES_PER_SECOND
    reader = _any_reader()
    try:
        result: R = reader.ask(path, seconds, (function, args, kwargs))
    except BaseException as error:
        if not isinstance(error, (ValueError, RuntimeError)):  # interrupted while the process works
            reader.end()
        raise
    finally:
        if reader.process.returncode is None:
            _idle.append(reader)
    return result


def _any_reader() -> _Reader:
    try:
        while True:
            reader = _idle.pop()
            if reader.process.poll() is None:
                return reader
            reader.end()  # something else ended it, while it did nothing
    except IndexError:
        return _Reader()


def now_reading(path: Path) -> None:
    """Note the file to name if this process ends; of a folder, its files are read one after the other."""
    if _inside:
        os.write(2, NAMED + os.fsencode(path) + b"\n")


def serve() -> None:
    """Answer calls until the process that asks has ended."""
    global _inside
    _inside = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a terminal sends to all
    faulthandler.enable()
    with os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)  # what a decoder prints is no reply
        memory = _Memory()
        claims.on_claim = memory.allow
        _answer(replies, False, None)
        while True:
            try:
                seconds, (function, args, kwargs) = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            if os.fstat(2).st_size:
                os.ftruncate(2, 0)
                os.lseek(2, 0, os.SEEK_SET)
            with _limited_time(seconds), memory.limited():
                try:
                    failed, result = False, function(*args, **kwargs)
                except ValueError as error:
                    failed, result = True, ValueError(str(error))
                except MemoryError:
                    failed, result = True, RuntimeError("it takes too much memory for its size")
                except Exception as error:
                    failed, result = True, RuntimeError(str(error) or type(error).__name__)
            _answer(replies, failed, result)


def _answer(replies: Any, failed: bool, result: object) -> None:
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(result, 5, buffer_callback=buffers.append)
    parts = [memoryview(content), *(buffer.raw() for buffer in buffers)]
    pickle.dump((failed, [part.nbytes for part in parts]), replies)
    for part in parts:
        replies.write(part)
    replies.flush()


@contextlib.contextmanager
def _limited_time(seconds: float) -> Iterator[None]:
    """End this process unless it is done in time, also if a decoder never returns to Python."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
        signal.setitimer(signal.ITIMER_REAL, 0)
    else:  # much slower
        faulthandler.dump_traceback_later(seconds, exit=True)
        yield
        faulthandler.cancel_dump_traceback_later()


class _Memory:
    """Limits what this process allocates to `ROOM`, and in a call to more once a header was checked; on Linux only."""

    def __init__(self) -> None:
        self.room = 0
        self.allow(0)

    def allow(self, claimed: int) -> None:
        room = max(ROOM, TIMES * claimed)
        if room > self.room:
            self.room = room
            self._limit(room)

    @contextlib.contextmanager
    def limited(self) -> Iterator[None]:
        yield
        if self.room > ROOM:
            self.room = 0
            self.allow(0)

    def _limit(self, room: int) -> None:
        try:
            import resource

            pages = int(Path("/proc/self/statm").read_bytes().split()[5])  # data and stack
        except (ImportError, OSError):
            return
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        wanted = pages * resource.getpagesize() + room
        resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(hard, wanted), hard))


@atexit.register
def _end_all() -> None:
    while _idle:
        _idle.pop().end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # they answer the parent

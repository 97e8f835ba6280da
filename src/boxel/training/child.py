"""A function in a process of its own: what it allocates, draws and sets leaves no trace in this one.

The process is started by a command, not forked, so that it works on all systems alike, with threads and GPUs, and
without a guarded main module.
"""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

from boxel.plugins import load_plugin, loaded_plugins
from boxel.training.memory import OutOfMemoryError, is_out_of_memory, keep_freed_memory

P = ParamSpec("P")
R = TypeVar("R")
START = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from boxel.training.child import serve; serve()"
)


def in_child(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function in a process of its own, with the threads and the plug-in files of this one.

    Args:
        function: at the top level of a module; arguments and result can be pickled.

    Raises:
        ValueError: as the function.
        OutOfMemoryError: the memory ran out, or the system ended the process, as it does then.
        RuntimeError: the function raised another exception; with its message.
    """
    plugins = [(str(plugin.path), plugin.sha256) for plugin in loaded_plugins()]
    parts: list[Any] = [sys.path, plugins, torch.get_num_threads(), (function, args, kwargs)]
    ended = subprocess.run(
        [sys.executable, "-P", "-c", START],
        input=b"".join(map(pickle.dumps, parts)),
        capture_output=True,
        check=False,
    )
    if ended.returncode == -getattr(signal, "SIGKILL", 9):
        raise OutOfMemoryError("the system ended the process")
    if ended.returncode or not ended.stdout:
        lines = ended.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {ended.returncode}"]
        raise RuntimeError(f"the process that runs {function.__name__} failed: {lines[-1]}")
    error, result = pickle.loads(ended.stdout)
    if error:
        raise error
    return result  # type: ignore[no-any-return]


def serve() -> None:
    """Answer the call that comes on standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both; the other process ends this one
    keep_freed_memory()  # as a training does
    with os.fdopen(os.dup(1), "wb") as reply:
        os.dup2(2, 1)  # what a library prints is no reply
        for path, sha256 in pickle.load(sys.stdin.buffer):
            load_plugin(path, sha256=sha256)
        torch.set_num_threads(pickle.load(sys.stdin.buffer))
        function, args, kwargs = pickle.load(sys.stdin.buffer)
        try:
            answer: tuple[Exception | None, Any] = None, function(*args, **kwargs)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            answer = OutOfMemoryError(str(error).partition("\n")[0]), None
        except (ValueError, FloatingPointError) as error:
            answer = ValueError(str(error)), None
        pickle.dump(answer, reply)

"""A cell on another machine: what a Ray task and a SLURM job do."""

import io
import platform
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from boxel.experiments.cell import attempt
from boxel.files import open_to_append
from boxel.plugins import loaded_plugins


def plugin_files() -> tuple[Path, ...]:
    """The plug-ins of this process, as other machines find them."""
    return tuple(plugin.path.resolve() for plugin in loaded_plugins())


def carry_out(folder: Path, plugins: Sequence[Path], threads: int) -> str | None:
    """Carry out the cell of an absolute folder on shared storage; its output goes to `log.txt`.

    A cell that another process works on is left to it, so that no reserved core waits for a lock.

    Returns:
        The reason if it failed.
    """
    import torch

    if not folder.is_dir():
        return f"{folder}: not on the machine {platform.node()}; all machines need the same shared storage"
    torch.set_num_threads(threads)
    with (
        io.TextIOWrapper(open_to_append(folder / "log.txt"), "utf-8") as log,
        redirect_stdout(log),
        redirect_stderr(log),
    ):
        return attempt(folder, plugins)

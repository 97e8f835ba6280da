"""The memory that training takes: how the C library manages it, and what is said when it runs out."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4


class OutOfMemoryError(ValueError):
    """The memory of the device, or of the machine, ran out."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, of Python, torch or a device, says that the memory ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = ("out of memory", "can't allocate memory")  # by MPS and the CPU
    return isinstance(error, RuntimeError) and any(text in str(error) for text in said)


@contextmanager
def explained(run: Path, patches: str) -> Iterator[None]:
    """Turn an exception that says that the memory ran out into an OutOfMemoryError that says what to change.

    Args:
        patches: what a step has, such as `2 patches of 64x64`.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OutOfMemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).partition(". ")[0].partition("\n")[0] or type(error).__name__
        raise OutOfMemoryError(
            f"{run}: the memory ran out in a training with {patches} per step ({reason}); train into another folder "
            "with --set plan.memory=SIZE, such as 8GB, or a smaller train.batch_size, plan.patch_size or recipe"
        ) from None


def keep_freed_memory() -> bool:
    """Ask glibc to reuse freed memory for large tensors instead of returning it to the system.

    Without this every large tensor of a CPU training step is mapped, zeroed page by page and unmapped again.
    Returns whether glibc agreed (Linux only). benchmarks/malloc.py measures the gain.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    # glibc refuses a mapping threshold above 32 MiB, so no mapping at all is the setting that reaches every tensor.
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))

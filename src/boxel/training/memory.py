"""Memory management of the C library."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4


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

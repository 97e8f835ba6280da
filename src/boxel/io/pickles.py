"""Pickles of other tools, opened without running what is in them.

A pickle can run any code when it is opened. These are opened by a reader that builds numpy arrays and plain values and
refuses whatever else a file asks for.
"""

import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

__all__ = ["read_pickle"]

# What numpy arrays and numbers are pickled as, before and since numpy 2; dictionaries that keep their order.
_ADMITTED = {
    ("collections", "OrderedDict"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only numpy arrays are admitted")
        return super().find_class(module, name)


def read_pickle(path: Path) -> Any:
    """The content of a pickle of plain values and numpy arrays.

    Raises:
        ValueError: it holds anything else, or is damaged; nothing of it was run.
    """
    try:
        return _ArraysOnly(BytesIO(Path(path).read_bytes())).load()
    except Exception as error:  # a damaged pickle raises almost anything
        raise ValueError(f"{path}: not a pickle that Boxel opens: {error}; export its content as JSON") from None

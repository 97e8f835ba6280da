"""Read pickles of other tools without running code in them.

Opening a pickle can run any code. This reader builds numpy arrays and plain values and refuses everything else.
"""

import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

from boxel.inputs.texts import read_bytes

__all__ = ["read_pickle"]

# The names in pickles of numpy arrays and numbers, before and since numpy 2, and of ordered dictionaries.
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
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, and only numpy arrays are admitted")
        return super().find_class(module, name)


def read_pickle(path: Path) -> Any:
    """The content of a pickle of plain values and numpy arrays.

    Raises:
        ValueError: it contains anything else, or is damaged; no code in it was run.
    """
    try:
        return _ArraysOnly(BytesIO(read_bytes(Path(path), share=0.5))).load()
    except Exception as error:  # a damaged pickle raises almost anything
        raise ValueError(f"{path}: not a pickle that Boxel opens ({error}); export its content as JSON") from None

"""Weight files from elsewhere: safetensors and torch files; only tensors and plain values are read."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file


def read_weights(path: Path) -> dict[str, Any]:
    """The content of the file, tensors and other values, nested keys joined by dots.

    Raises:
        ValueError: no such file, a damaged file, or one whose reading would run code that it contains.
    """
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file; give a file of pretrained weights (.safetensors, .pth, .pt, .ckpt, "
            "or .weights of Darknet)"
        )
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with torch.serialization.safe_globals(_numpy_scalars()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles and zip files raise nearly anything: IndexError, TypeError, ...
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code is None:
            raise ValueError(f"{path}: not a readable file of weights; download it again") from None
        raise ValueError(
            f"{path}: holds more than tensors and plain values ({code[1]}), which may run code when it is read. If you "
            "trust its source, write the tensors to a file that cannot:\n"
            "  import torch; from safetensors.torch import save_file\n"
            f"  state = torch.load({str(path)!r}, weights_only=False)['state_dict']  # or 'model', 'network_weights'\n"
            "  save_file({key: tensor.clone() for key, tensor in state.items()}, 'weights.safetensors')"
        ) from None
    return dict(_leaves(content))


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _numpy_scalars() -> list[Any]:
    """The types in a pickled numpy number, by their names in numpy 1 and 2: nnU-Net saves its scores as such."""
    scalar = np.float64(0).__reduce__()[0]
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [*names, np.dtype, *(type(np.dtype(kind)) for kind in "?bhilqBHILQefd")]


def _leaves(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(content, Mapping):
        yield prefix.removesuffix("."), content
        return
    for key, value in content.items():
        yield from _leaves(value, f"{prefix}{key}.")

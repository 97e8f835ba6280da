"""Instance masks as text in JSON: probabilities on a grid over the box in steps of 1/255, compressed, in base 64."""

import base64
import math
import zlib
from typing import Any

import numpy as np

MOST_CELLS = 2**24


def mask_to_text(mask: np.ndarray) -> dict[str, Any]:
    """`{"cells": [per axis], "data": text}` of probabilities `(*g)`."""
    steps = np.rint(np.asarray(mask, np.float32) * 255).clip(0, 255).astype(np.uint8)
    return {"cells": list(steps.shape), "data": base64.b64encode(zlib.compress(steps.tobytes(), 9)).decode("ascii")}


def mask_from_text(value: Any, ndim: int) -> np.ndarray:
    """The mask `(*g)` float16.

    Raises:
        ValueError: the text is not a mask; names the rule.
    """
    cells = value.get("cells") if isinstance(value, dict) and len(value) == 2 and "data" in value else None
    if not isinstance(cells, list) or len(cells) != ndim:
        raise ValueError(f'must be {{"cells": {ndim} whole numbers, "data": text}}')
    if not all(type(n) is int and n > 0 for n in cells) or math.prod(cells) > MOST_CELLS:
        raise ValueError(f"has cells {cells}; there must be positive whole numbers, at most {MOST_CELLS} cells in all")
    try:
        unpacked = zlib.decompressobj().decompress(base64.b64decode(value["data"], validate=True), math.prod(cells) + 1)
        steps = np.frombuffer(unpacked, np.uint8).reshape(cells)
    except (TypeError, ValueError, zlib.error):
        raise ValueError(f"has data that do not hold {math.prod(cells)} cells; write the file again") from None
    return (steps / np.float32(255)).astype(np.float16)

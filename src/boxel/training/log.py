"""The log of a training: `metrics.jsonl`, one line per step."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from boxel.config import write_text


class MetricsLog:
    """The log of the steps up to `last_step`; lines of later steps, left by an interrupted training, are dropped.

    Args:
        write: whether this process writes the log: the first of several does.

    Attributes:
        seconds: how long the logged steps took.
    """

    def __init__(self, path: Path, last_step: int, *, write: bool = True) -> None:
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if _step(line) <= last_step]
        self.path, self.write = path, write
        self.seconds = float(json.loads(kept[-1]).get("seconds", 0.0)) if kept else 0.0
        if write:
            write_text(path, "".join(line + "\n" for line in kept))

    def add(self, values: Mapping[str, float]) -> None:
        """Append the line of a step."""
        if self.write:
            with self.path.open("a") as file:
                file.write(json.dumps(values) + "\n")


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf  # a line that a kill cut short

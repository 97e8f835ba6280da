"""The log of a training: `metrics.jsonl`, one line per step."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from boxel.files import open_to_append, write_text
from boxel.inputs.texts import read_bytes

Values = Mapping[str, float]


class MetricsLog:
    """The log of the steps up to `last_step`; lines of later steps, left by an interrupted training, are dropped.

    Args:
        write: whether this process writes the log: the first of several does.

    Attributes:
        seconds: how long the logged steps took.
        validations: the lines of steps after which the model was validated.
    """

    def __init__(self, path: Path, last_step: int, *, write: bool = True) -> None:
        kept = [(line, values) for line, values in _whole_lines(path) if values["step"] <= last_step]
        self.path, self.write = path, write
        self.seconds = kept[-1][1]["seconds"] if kept else 0.0
        self.validations: list[Values] = [values for _, values in kept if _validated(values)]
        if write:
            write_text(path, "".join(line + "\n" for line, _ in kept))

    def add(self, values: Values) -> None:
        """Append the line of a step."""
        if _validated(values):
            self.validations.append(values)
        if self.write:
            with open_to_append(self.path) as file:
                file.write(json.dumps(values).encode() + b"\n")


def _validated(values: Values) -> bool:
    return any(key.startswith("val/") for key in values)


def read_log(path: Path) -> list[dict[str, float]]:
    """The metrics of each step, `step` and `seconds` among them; damaged lines are left out.

    A kill may cut a line short, and a full disk or a copy may damage some. `seconds` that are missing are those of the
    step before.
    """
    return [values for _, values in _whole_lines(path)]


def _whole_lines(path: Path) -> Iterator[tuple[str, dict[str, float]]]:
    seconds = 0.0
    for line in read_bytes(path).decode(errors="replace").splitlines() if path.exists() else ():
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(values, dict) and _is_number(values.get("step")):
            numbers = {key: value for key, value in values.items() if _is_number(value)}
            seconds = numbers.setdefault("seconds", seconds)
            yield line, numbers


def _is_number(value: Any) -> bool:
    """Whether a value is a number that a float holds."""
    try:
        return not isinstance(value, str) and math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False

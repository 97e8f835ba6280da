"""What `benchmarks/accuracy.py` and the driver of another tool hand each other; it runs without Boxel.

The driver is given a folder: `data.json`, `images/` (PNG of 8 bits; in 3D NIfTI of float32) and, for objects with
masks, `label_maps/`, in which object `i` of a case has the value `i + 1`. Boxes are `[[lower corner], [upper corner]]`
in voxels, half-open, axes in array order (row, column; in 3D plane, row, column). Test cases come without objects.

It gives back one JSON file: the boxes, scores (0..1) and labels of every test case, 500 of each at most, and the CPU
seconds of its process.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

__all__ = ["Boxes", "Case", "Clock", "Data", "Job", "read_data", "run", "write_result"]


MOST = 500  # boxes of an image that are given back, those with the highest scores


@dataclass(frozen=True)
class Boxes:
    """Detections of one image: `boxes (n, 2, d)`, `scores (n,)`, `labels (n,)`."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def best(self) -> "Boxes":
        order = np.argsort(-self.scores, kind="stable")[:MOST]
        return Boxes(self.boxes[order], self.scores[order], self.labels[order])


@dataclass(frozen=True)
class Case:
    """An image and its objects: `boxes (n, 2, d)`, `labels (n,)`."""

    id: str
    part: str
    boxes: np.ndarray
    labels: np.ndarray
    image_file: Path
    label_map_file: Path | None

    def image(self) -> np.ndarray:
        """`(*s)`, or `(*s, c)` of several channels."""
        return _read(self.image_file)

    def label_map(self) -> np.ndarray:
        """`(*s)`, object `i` as `i + 1`."""
        if self.label_map_file is None:
            raise ValueError(f"case {self.id} has no masks; choose a tool that learns from boxes")
        return _read(self.label_map_file).astype(np.int32)


@dataclass(frozen=True)
class Data:
    """The folder: `spacing` in mm, or the like, per array axis."""

    ndim: int
    channels: int
    classes: tuple[str, ...]
    spacing: tuple[float, ...]
    cases: tuple[Case, ...]

    def part(self, name: str) -> list[Case]:
        """The cases of `train`, `val` or `test`."""
        return [case for case in self.cases if case.part == name]


class Clock:
    """CPU time of this process, all threads together, since it was made."""

    def __init__(self, budget: float) -> None:
        self.budget, self._begin = budget, time.process_time()

    def spent(self) -> float:
        return time.process_time() - self._begin

    def share(self) -> float:
        """How much of the budget is spent, at most 1."""
        return min(1.0, self.spent() / self.budget)


@dataclass(frozen=True)
class Job:
    """What a driver is asked for; `remarks` end in the result."""

    data: Data
    clock: Clock
    seed: int
    variant: str
    scratch: Path
    remarks: dict[str, float | str]


def read_data(folder: Path) -> Data:
    """The folder as `benchmarks/accuracy.py` wrote it."""
    record = json.loads((folder / "data.json").read_text())
    d = record["ndim"]
    cases = [
        Case(
            one["id"], one["part"], np.array(one["boxes"], np.float32).reshape(-1, 2, d),
            np.array(one["labels"], np.int64), folder / one["image"],
            folder / one["label_map"] if one["label_map"] else None,
        )
        for one in record["cases"]
    ]  # fmt: skip
    return Data(d, record["channels"], tuple(record["classes"]), tuple(record["spacing"]), tuple(cases))


def _read(path: Path) -> np.ndarray:
    if path.suffix == ".png":
        from PIL import Image

        return np.array(Image.open(path))
    import nibabel

    array = np.asarray(nibabel.load(path).dataobj)  # x, y, z[, channel]
    return np.ascontiguousarray(array.transpose(2, 1, 0, *range(3, array.ndim)))


def write_result(path: Path, found: dict[str, Boxes], **extra: object) -> None:
    """Write the file that is given back; it appears whole or not at all."""
    cases = {
        case: {"boxes": one.boxes.tolist(), "scores": one.scores.tolist(), "labels": one.labels.tolist()}
        for case, one in found.items()
    }
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({**extra, "cases": cases}))
    temporary.replace(path)


def run(fit: Callable[[Job], Callable[[np.ndarray], Boxes]], packages: tuple[str, ...]) -> None:
    """The command line of a driver: `DATA OUT.json --seconds S --seed N`.

    Args:
        fit: trains within the budget and returns what predicts one image.
        packages: whose versions are recorded.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variant", default="")
    given = parser.parse_args()
    clock = Clock(given.seconds)
    scratch = given.out.with_suffix(".scratch")
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was interrupted
    scratch.mkdir(parents=True)
    job = Job(read_data(given.data), clock, given.seed, given.variant, scratch, {})
    predict = fit(job)
    trained = clock.spent()
    found = {case.id: predict(case.image()).best() for case in job.data.part("test")}
    write_result(
        given.out, found, train_seconds=trained, predict_seconds=clock.spent() - trained, remarks=job.remarks,
        versions={name: metadata.version(name) for name in packages},
    )  # fmt: skip
    shutil.rmtree(scratch, ignore_errors=True)

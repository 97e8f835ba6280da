"""Boxel against what users would pick instead, at equal CPU time: `python benchmarks/accuracy.py OUT`.

    python benchmarks/accuracy.py OUT --peers retina_unet_small yolo11n --data blood_cells --minutes 5 --seeds 0 1 2

Every cell (tool, data set, minutes, seed) trains from random weights on the same training images, chooses on the same
validation images, and is evaluated by Boxel on the same test images. The budget is CPU time of one process with one
thread, from after its imports until it has chosen its weights and thresholds; the prediction of the test images is
timed apart. A finished cell is a file of `OUT/cells`, or of `--cells`: rerun the command to resume. The first cell of a
tool installs it, with pinned versions, into an environment of its own below `--environments`; no later one needs a
network.

A name with `_small` is a recipe of Boxel. `yolo11n` is Ultralytics'; `torchvision_...` have a ResNet-18 with an FPN;
`stardist` learns from masks, all others but those of Boxel with masks from boxes alone; `monai` is its RetinaNet.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from accuracy_data import DATA, write_exchange

import boxel
from boxel.datasets.cases import Dataset, read_case
from boxel.datasets.split import dataset_splits
from boxel.experiments.statistics import t_interval
from boxel.export.boxel_json import write_detections
from boxel.files import write_text
from boxel.types import Detections, Geometry, Split

DRIVERS = Path(__file__).parent / "peers"
METRICS = ("AP@0.10", "AP@0.50")
ENVIRONMENTS = {
    "torch": (
        "torch==2.14.1", "torchvision==0.29.1", "ultralytics-opencv-headless==8.4.190", "monai==1.6.1",
        "nibabel==5.4.2",
    ),
    "tensorflow": ("tensorflow-cpu==2.21.0", "stardist==0.9.2", "csbdeep==0.8.2", "nibabel==5.4.2"),
}  # fmt: skip
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Peer:
    """A tool: its driver in `peers/`, its environment (that of Boxel if empty), and the data that it learns from."""

    driver: str
    environment: str = ""
    variant: str = ""
    ndims: tuple[int, ...] = (2, 3)
    needs_masks: bool = False


PEERS = {
    "yolo11n": Peer("yolo11n", "torch", ndims=(2,)),
    "torchvision_faster_rcnn": Peer("torchvision_detectors", "torch", "faster_rcnn", ndims=(2,)),
    "torchvision_retina_net": Peer("torchvision_detectors", "torch", "retina_net", ndims=(2,)),
    "stardist": Peer("star_convex", "tensorflow", needs_masks=True),
    "monai": Peer("monai_retina_net", "torch"),
} | {
    name: Peer("recipe", variant=name)
    for name in ("retina_net_small", "retina_unet_small", "faster_rcnn_small", "yolov4_small", "det_unet_small")
}  # fmt: skip


def detections_of(file: Path, shapes: dict[str, Geometry], classes: Sequence[str]) -> dict[str, Detections]:
    """What a driver gave back, clipped to the images; without boxes that are empty or outside.

    Raises:
        ValueError: a test case is missing or unknown, or a value is out of range; names the file.
    """
    given = json.loads(file.read_text())["cases"]
    if differing := sorted(given.keys() ^ shapes.keys()):
        raise ValueError(f"{file}: the case {differing[0]!r} is missing or unknown; remove the file and run it again")
    found = {}
    for case, one in given.items():
        geometry = shapes[case]
        d = len(geometry.shape)
        boxes = np.array(one["boxes"], np.float64).reshape(-1, 2, d)
        scores, labels = np.array(one["scores"], np.float32), np.array(one["labels"], np.int64)
        if not (len(boxes) == len(scores) == len(labels) and np.isfinite(boxes).all()):
            raise ValueError(
                f"{file}: case {case!r} has boxes that are not finite, or not as many as scores and labels"
            )
        if not (((scores >= 0) & (scores <= 1)).all() and ((labels >= 0) & (labels < len(classes))).all()):
            raise ValueError(f"{file}: case {case!r} has a score outside 0..1 or a label of no class")
        boxes = np.clip(boxes, 0, geometry.shape).astype(np.float32)
        kept = (boxes[:, 0] < boxes[:, 1]).all(axis=1)
        found[case] = Detections(boxes[kept], scores[kept], labels[kept], geometry)
    return found


def evaluate_result(file: Path, dataset: Dataset, split: Split, folder: Path) -> dict[str, float | None]:
    """The metrics of what a driver gave back, on the test cases; the predictions in `folder`."""
    shapes = {case: read_case(dataset[case], dataset, repair=True).image.geometry for case in split.test}
    for case, detections in detections_of(file, shapes, dataset.classes).items():
        write_detections(folder / f"{case}.json", detections, case, dataset.classes)
    metrics = boxel.evaluate(folder, dataset, config={"num_resamples": 0}).metrics
    names = [name for metric in METRICS for name in (metric, *(f"{metric}/{label}" for label in dataset.classes))]
    return {name: metrics[name] for name in names if name in metrics}


def python_of(environment: str, root: Path) -> Path:
    """The interpreter of an environment, which is made where it is missing or other versions are asked for."""
    if not environment:
        return Path(sys.executable)
    folder, wanted = root / environment, "\n".join(ENVIRONMENTS[environment]) + "\n"
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {environment} into {folder}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *ENVIRONMENTS[environment]], check=True)
        write_text(stamp, wanted)
    return python


def run_cell(
    name: str, data: str, minutes: float, seed: int, out: Path, environments: Path, cells: Path | None = None
) -> dict[str, object] | None:
    """The record of a cell, from its file if it is there; None if the tool cannot learn from the data."""
    peer = PEERS[name]
    cell = f"{data}-{name}-{minutes:g}min-seed{seed}"
    record = (cells or out / "cells") / f"{cell}.json"
    if record.exists():
        return json.loads(record.read_text())
    dataset, split = opened(data, out)
    if dataset.ndim not in peer.ndims or (peer.needs_masks and not has_masks(out / "exchange" / data)):
        return None
    given = out / "given" / f"{cell}.json"
    if not given.exists():
        given.parent.mkdir(parents=True, exist_ok=True)
        print(f"running {cell}", file=sys.stderr, flush=True)
        command: list[str | Path] = [python_of(peer.environment, environments), DRIVERS / f"{peer.driver}.py"]
        command += [out / "exchange" / data, given, "--seconds", str(60 * minutes), "--seed", str(seed)]
        command += ["--variant", peer.variant] if peer.variant else []
        with given.with_suffix(".log").open("w") as log:
            done = subprocess.run(command, stdout=log, stderr=log, env=os.environ | dict.fromkeys(THREADS, "1"))
        if done.returncode:
            raise SystemExit(f"{given.with_suffix('.log')}: {cell} failed; read the end of this file")
    result = {key: value for key, value in json.loads(given.read_text()).items() if key != "cases"}
    metrics = evaluate_result(given, dataset, split, out / "predictions" / cell)
    result |= {
        "tool": name,
        "data": data,
        "minutes": minutes,
        "seed": seed,
        "metrics": metrics,
        "cases": len(split.test),
        "commit": commit(),
        "date": str(date.today()),
    }
    write_text(record, json.dumps(result, indent=2))
    return result


def opened(data: str, out: Path) -> tuple[Dataset, Split]:
    """The data set and its first fold; what drivers read is written where it is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = DATA[data](out / "data" / data)
    split = dataset_splits(dataset)[0]
    if not (out / "exchange" / data / "data.json").exists():
        write_exchange(dataset, split, out / "exchange" / data)
    return dataset, split


def has_masks(exchange: Path) -> bool:
    """Whether drivers get label maps of the training images."""
    cases = json.loads((exchange / "data.json").read_text())["cases"]
    return any(case["label_map"] for case in cases if case["part"] == "train")


def commit() -> str:
    """Of Boxel, with which the cell ran."""
    asked = ["git", "-C", Path(__file__).parent, "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def table(records: Sequence[dict]) -> str:
    """One row for each tool, data set and budget: means over seeds, with the 95 % interval (Student's t)."""
    rows = ["| data | tool | minutes | seeds | AP@0.10 | AP@0.50 | CPU s of the training | CPU s per test image |"]
    rows.append("|---" * 8 + "|")
    keys = dict.fromkeys((one["data"], one["tool"], one["minutes"]) for one in records)
    for key in keys:
        group = [one for one in records if (one["data"], one["tool"], one["minutes"]) == key]
        cells = [with_interval([one["metrics"][metric] for one in group]) for metric in METRICS]
        trained = statistics.mean(one["train_seconds"] for one in group)
        per_image = statistics.mean(one["predict_seconds"] / one["cases"] for one in group)
        data, tool, minutes = key
        rows.append(
            f"| {data} | {tool} | {minutes:g} | {len(group)} | {' | '.join(cells)} | {trained:.0f} | {per_image:.3f} |"
        )
    return "\n".join(rows)


def with_interval(values: Sequence[float]) -> str:
    ends = t_interval(np.array(values))
    return f"{statistics.mean(values):.3f}" + (f" ({ends[0]:.3f}, {ends[1]:.3f})" if ends else "")


def positive(text: str) -> float:
    if not 0 < float(text) < float("inf"):
        raise ValueError
    return float(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="TOOL")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--minutes", type=positive, nargs="+", default=[5.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cells", type=Path, help="folder of the finished cells [OUT/cells]")
    parser.add_argument("--environments", type=Path, default=Path.home() / ".cache" / "boxel-peers")
    given = parser.parse_args()
    cells = [
        (peer, data, minutes, seed)
        for seed in given.seeds for data in given.data for minutes in given.minutes for peer in given.peers
    ]  # fmt: skip
    places = (given.out, given.environments.expanduser(), given.cells)
    records = [run_cell(*cell, *places) for cell in cells]
    print(table([record for record in records if record]))


if __name__ == "__main__":
    main()

"""Boxel JSON, the format that `boxel predict` writes: `CASE.json`; see `boxel.export.boxel_json`."""

from collections.abc import Sequence
from pathlib import Path

from boxel.export.boxel_json import FORMAT, read_prediction, read_predictions, write_detections
from boxel.export.entries import begins_with
from boxel.export.prediction import DatasetInfo, Prediction
from boxel.export.registry import register_export
from boxel.output_folder import case_file


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/CASE.json` for each case."""
    paths = []
    for prediction in predictions:
        paths.append(case_file(out, prediction.case, ".json"))
        write_detections(
            paths[-1],
            prediction.detections,
            prediction.case,
            prediction.classes,
            image_files=prediction.image_files,
            operating_points=prediction.operating_points,
            warnings=prediction.warnings,
        )
    return paths


def read(path: Path, info: DatasetInfo) -> list[Prediction]:
    """The prediction in a file, or in every `*.json` of a folder; the files say their classes and geometry."""
    return read_predictions(path) if Path(path).is_dir() else [read_prediction(path)]


def detect(path: Path) -> bool:
    """Whether a JSON file there names this format."""
    return begins_with(path, ".json", FORMAT)


register_export("boxel", write, read, detect)

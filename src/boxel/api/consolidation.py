"""`boxel consolidate`: other consolidation settings for boxes that were predicted before."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from boxel.api.prediction import settings_of
from boxel.caps import warn_of_caps
from boxel.config import Config
from boxel.consolidation import ConsolidateConfig, RawPrediction
from boxel.consolidation.raw_file import raw_files, read_raw_file
from boxel.export.boxel_json import segmentation_file, write_detections
from boxel.files import write_bytes
from boxel.inputs.texts import read_json
from boxel.operating_points import OTHERWISE
from boxel.output_folder import case_file, claimed, unfinished, wanted_cases
from boxel.types import Progress, silent
from boxel.wording import counted


class _Settings(Config):
    """What `--set` may change, under the keys that the recipe uses."""

    consolidate: ConsolidateConfig


def consolidate_folder(
    predictions: Path | str,
    out: Path | str,
    *,
    overrides: Sequence[str] = (),
    views: int | str | None = None,
    checkpoints: int | None = None,
    progress: Progress = silent,
) -> list[Path]:
    """Consolidate stored raw predictions again and write one JSON of detections per image into `out`.

    Needs neither the images nor the run nor a GPU. Repeat an interrupted call to resume it: images that are already
    done with these settings are skipped.

    Args:
        predictions: the folder that `boxel predict` wrote.
        out: a new or empty folder, or one that these predictions were consolidated into with the same settings. It can
            be evaluated, converted and reported like `predictions`. Segmentations are copied.
        overrides: settings such as `consolidate.iou_threshold=0.5`; the others are those of the run that predicted.
        views: use only some of the recorded mirrored views: the first so many, or `"identity"`, `"plane"` or `"all"`.
        checkpoints: use only the best so many checkpoints of each run.

    Returns:
        The files, one per image.

    Raises:
        ValueError: no raw predictions there, a missing or damaged file, an unknown setting, views or checkpoints that
            were not recorded, or `out` holds anything else. Every file is read before the first result is written.
    """
    files, out = raw_files(predictions), Path(out)
    choice = _Choice(overrides, views, checkpoints)
    written: dict[Path, Path] = {}
    settings: dict[str, Any] = {}
    runs = set()
    capped = left_out = otherwise = 0
    for done, file in enumerate(files):
        progress("verify", done, len(files))
        prediction = read_raw_file(file)
        selected, config = choice.of(prediction)
        path = case_file(out, prediction.case, ".json", len(files))
        if path in written:
            raise ValueError(f"{file}: case {prediction.case!r} was already read from another file; remove one of them")
        label_map = _segmentation_of(file, prediction.case)
        if "segmentation" in selected.extra and not label_map.exists():
            raise ValueError(
                f"{label_map}: the segmentation of this prediction is missing; predict again, or restore the file"
            )
        written[path] = file
        left_out += "segmentation" in prediction.extra and "segmentation" not in selected.extra
        otherwise += bool(prediction.operating_points and selected.extra != prediction.extra)
        runs.add(str(prediction.extra.get("detector")))
        settings |= settings_of(consolidate=config)
    progress("verify", len(files), len(files))
    if left_out:
        logging.getLogger("boxel").warning(
            f"the segmentations of {counted(left_out, 'image')} are left out because they are means over all views; "
            "to have those of some views, predict again with these"
        )
    if otherwise:
        logging.getLogger("boxel").warning(OTHERWISE)
    job = settings | {"detectors": sorted(runs), "--views": views, "--checkpoints": checkpoints}
    cases = {path.name.removesuffix(".json") for path in written}
    folder = Path(predictions).parent if Path(predictions).name == "raw" else Path(predictions)
    if warning := unfinished(folder, cases):
        logging.getLogger("boxel").warning(warning)
    cases |= set(wanted_cases(folder))
    with claimed(out, "consolidate", job, source=str(Path(predictions).resolve()), cases=cases):
        for done, (path, file) in enumerate(written.items()):
            progress("consolidate", done, len(files))
            capped += _consolidate_file(file, path, choice)
    progress("consolidate", len(files), len(files))
    warn_of_caps(capped, len(files))
    return list(written)


@dataclass(frozen=True)
class _Choice:
    """What is consolidated, and how; see `consolidate_folder`."""

    overrides: Sequence[str]
    views: int | str | None
    checkpoints: int | None

    def of(self, prediction: RawPrediction) -> tuple[RawPrediction, ConsolidateConfig]:
        """The chosen views of a prediction, stamped as another one if they are not all; and its settings."""
        config = _Settings(consolidate=prediction.config).override(self.overrides).consolidate
        selected = prediction.select(views=self.views, checkpoints=self.checkpoints)
        changes = [selected.views.to_json()] if selected.views and selected.views != prediction.views else []
        extra = dict(prediction.extra)
        if changes:
            extra.pop("segmentation", None)  # a mean over all views
        if config != prediction.config:
            changes.insert(0, config.to_json())
        if changes:  # other settings have another stamp, as with `predict`
            digest = hashlib.sha256("".join([str(extra.get("detector")), *changes]).encode())
            extra["detector"] = digest.hexdigest()[:16]
        return replace(selected, extra=extra), config


def _consolidate_file(file: Path, path: Path, choice: _Choice) -> bool:
    """Write the detections of one case, unless they are there; return whether a cap left some out."""
    prediction, config = choice.of(read_raw_file(file))
    extra = prediction.extra
    if "segmentation" in extra:  # it does not depend on the settings
        _copy_segmentation(_segmentation_of(file, prediction.case), path.parent)
    record = read_json(path) if path.exists() else None
    if isinstance(record, dict) and record.get("extra") == extra:
        return bool(record.get("capped", False))
    detections = prediction.consolidate(config)
    write_detections(
        path,
        detections,
        prediction.case,
        prediction.classes,
        image_files=prediction.image_files,
        extra=extra,
        operating_points=prediction.operating_points,
        warnings=prediction.warnings,
    )
    return detections.capped


def _segmentation_of(file: Path, case: str) -> Path:
    """The segmentation that was predicted with the raw file of a case; the files of many cases are in subfolders."""
    folder = file.resolve().parent
    root = folder.parent.parent if folder.parent.name == "raw" else folder.parent
    return segmentation_file(case_file(root, case, ".json").parent, case)


def _copy_segmentation(file: Path, out: Path) -> None:
    if not (out / file.name).exists() or (out / file.name).stat().st_mtime_ns < file.stat().st_mtime_ns:
        write_bytes(out / file.name, file.read_bytes())

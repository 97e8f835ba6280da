"""`boxel consolidate`: other consolidation settings for boxes that were predicted before."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from boxel.api.prediction import segmentation_file
from boxel.config import Config, read_json, write_bytes
from boxel.consolidation import ConsolidateConfig
from boxel.consolidation.raw_file import raw_files, read_raw_file
from boxel.export.boxel_json import write_detections
from boxel.export.entries import case_file
from boxel.types import Progress, silent


class _Settings(Config):
    """What `--set` may change, under the keys that the recipe uses."""

    consolidate: ConsolidateConfig


def consolidate_folder(
    predictions: Path | str,
    out: Path | str,
    *,
    overrides: Sequence[str] = (),
    progress: Progress = silent,
) -> list[Path]:
    """Consolidate stored raw predictions again and write one JSON of detections per image into `out`.

    Needs neither the images nor the run nor a GPU. Repeat an interrupted call to resume it: images that are already
    done with these settings are skipped.

    Args:
        predictions: the folder that `boxel predict` wrote.
        out: another folder; it can be evaluated, converted and reported like `predictions`. Segmentations are copied.
        overrides: settings such as `consolidate.iou_threshold=0.5`; the others are those of the run that predicted.

    Returns:
        The files, one per image.

    Raises:
        ValueError: no raw predictions there, a damaged file, an unknown setting, or `out` is `predictions`.
    """
    files, out = raw_files(predictions), Path(out)
    holder = files[0].parent.resolve()
    if out.resolve() in (holder, holder.parent if holder.name == "raw" else holder):
        raise ValueError(f"{out}: holds the predictions; choose another folder with --out")
    written: list[Path] = []
    for done, file in enumerate(files):
        progress("consolidate", done, len(files))
        prediction = read_raw_file(file)
        config = _Settings(consolidate=prediction.config).override(overrides).consolidate
        path = case_file(out, prediction.case, ".json")
        if path in written:
            raise ValueError(f"{file}: case {prediction.case!r} was already read from another file; remove one of them")
        written.append(path)
        extra = dict(prediction.extra)
        if "segmentation" in extra:  # it does not depend on the settings
            _copy_segmentation(segmentation_file(holder.parent, prediction.case), out)
        if config != prediction.config:  # other settings have another stamp, as with `predict`
            digest = hashlib.sha256((str(extra.get("detector")) + config.to_json()).encode())
            extra["detector"] = digest.hexdigest()[:16]
        record = read_json(path) if path.exists() else None
        if isinstance(record, dict) and record.get("extra") == extra:
            continue
        write_detections(
            path,
            prediction.consolidate(config),
            prediction.case,
            prediction.classes,
            image_files=prediction.image_files,
            extra=extra,
        )
    progress("consolidate", len(files), len(files))
    return written


def _copy_segmentation(file: Path, out: Path) -> None:
    if not file.exists():
        raise ValueError(f"{file}: the segmentation of this prediction is missing; predict again, or restore the file")
    if not (out / file.name).exists() or (out / file.name).stat().st_mtime_ns < file.stat().st_mtime_ns:
        write_bytes(out / file.name, file.read_bytes())

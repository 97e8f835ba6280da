"""`boxel convert`: predictions of one format written in another."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from boxel.datasets.names import case_ids
from boxel.export import DatasetInfo, ImageGeometries, Prediction, get_format, recognise
from boxel.inputs.folders import walk
from boxel.io import SUFFIXES, read_geometry, split_suffix
from boxel.io.channels import group_channels, in_order, split_channel
from boxel.operating_points import OperatingPoints, Shown
from boxel.output_folder import claimed, unfinished
from boxel.wording import counted_of


def convert(
    predictions: Path | str,
    out: Path | str,
    to: str,
    *,
    source: str = "auto",
    images: Path | str | None = None,
    classes: Sequence[str] = (),
    min_score: float | None = None,
    shown: Shown = Shown(),  # noqa: B008 (frozen)
) -> list[Path]:
    """Write predictions in another format; docs/how_to/export.md lists the formats.

    Args:
        predictions: a folder or a file, in the format `source`.
        out: a new or empty folder, or one that holds an earlier conversion of these predictions to this format.
        to: name of the format to write.
        source: name of the format to read; "auto": recognised by the files.
        images: folder of the images, for formats that need them or their geometry: files `CASE.nii.gz`,
            `CASE_0000.nii.gz`, or a folder `CASE` with a DICOM series; or a DICOM series itself. Only needed if the
            images were moved after prediction, or if `source` does not name them.
        classes: class names in the order of the labels, for a `source` that does not contain them in this order.
        min_score: detections with lower scores are left out; the same as `shown=Shown(min_score=...)`.
        shown: which detections are written. By default the formats that people look at have those above the threshold
            that `boxel predict` applied, and the others all.

    Returns:
        The files written.

    Raises:
        ValueError: an unknown format, files that are not of the format `source`, what `to` needs is missing, or `out`
            holds anything else.
    """
    predictions, out = Path(predictions), Path(out)
    if min_score is not None:
        shown = replace(shown, min_score=min_score)
    form = get_format(to)
    write = form.writer
    read = get_format(source).reader if source != "auto" else None
    if not predictions.exists():
        raise ValueError(f"{predictions}: no such file or folder; name the folder that boxel predict wrote to")
    read = read or recognise(predictions).reader
    files = find_cases(Path(images)) if images is not None else {}
    geometries = ImageGeometries({case: paths[0] for case, paths in files.items()})
    given = read(predictions, DatasetInfo(tuple(classes), geometries))
    if warning := unfinished(predictions, {prediction.case for prediction in given}):
        warnings.warn(warning, stacklevel=2)
    chosen = [_select(prediction, shown) for prediction in given]
    selects = form.for_viewers or bool(shown.to_dict())
    if selects:
        chosen = [prediction.above() for prediction in chosen]
    if files:
        chosen = [_with_image(prediction, files) for prediction in chosen]
    with claimed(out, "convert", {"--to": to, "PREDICTIONS": str(predictions.resolve())}):
        written = write(out, chosen)
    if selects:
        _say_what_is_shown(given, chosen)
    return written


def find_cases(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The image files of each case in a folder: its file, its channels, or its folder with a DICOM series.

    Names are those of `predict`. A file CASE_0001 is both a case of its own and a channel of CASE, since only the run
    knows which of them it is.

    Raises:
        ValueError: no such folder, nothing in it, or two files of one case and channel.
    """
    if not folder.exists():
        raise ValueError(f"{folder}: no such file or folder; name the folder of the images with --images")
    inner = sorted(here / name for here, *names in walk(folder) for name in (*names[0], *names[1]))
    paths = inner if folder.is_dir() else [folder]
    folders = [path for path in paths if path.is_dir() and any(path.iterdir())]
    files = [path for path in paths if path.is_file() and split_suffix(path)[1]]
    channels = group_channels(path for path in files if split_channel(path)[1] is not None and path.parent == folder)
    cases: dict[str, tuple[Path, ...]] = {"_".join(path.relative_to(folder).parts): (path,) for path in folders}
    cases |= {case: (path,) for case, path in zip(case_ids(files, folder), files, strict=True)}
    cases |= {case: in_order(numbered) for case, numbered in channels.items()}
    if not cases and folder.is_dir() and any(folder.iterdir()):
        cases[folder.resolve().name] = (folder,)  # itself a DICOM series
    if not cases:
        raise ValueError(f"{folder}: no image in this folder; known: {', '.join(SUFFIXES)} and DICOM series")
    return cases


def _select(prediction: Prediction, shown: Shown) -> Prediction:
    """The prediction with the operating point that is asked for."""
    if not shown.to_dict():
        return prediction
    points = prediction.operating_points or OperatingPoints.unknown(prediction.classes)
    return replace(prediction, operating_points=points.choose(shown))


def _say_what_is_shown(given: Sequence[Prediction], chosen: Sequence[Prediction]) -> None:
    """Log how many detections are written, and why these."""
    kept, total = (sum(len(prediction.detections) for prediction in some) for some in (chosen, given))
    points = next((prediction.operating_points for prediction in chosen), None)
    why = points or "no score thresholds are known, --min-score leaves out weak ones"
    logging.getLogger("boxel").info(f"{counted_of(kept, total, 'detection', 'is', 'are')} written: {why}")


def _with_image(prediction: Prediction, files: dict[str, tuple[Path, ...]]) -> Prediction:
    """The prediction with its image files, and their geometry where it has none."""
    if prediction.case not in files:
        known = ", ".join(sorted(files)[:5]) + (" ..." if len(files) > 5 else "")
        raise ValueError(
            f"{prediction.file or prediction.case}: no image of case {prediction.case!r} in --images, only of {known}; "
            "rename file or folder"
        )
    paths, detections = files[prediction.case], prediction.detections
    if detections.geometry is None:
        detections = replace(detections, geometry=read_geometry(paths[0]))
    return replace(prediction, detections=detections, image_files=paths)

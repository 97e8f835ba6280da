"""`boxel predict`."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

from boxel.api.detector import Detector, read_channels
from boxel.api.training import Progress, silent
from boxel.config import read_json, write_bytes
from boxel.data.cases import Dataset, read_case_image
from boxel.export import get_format
from boxel.export.boxel_json import read_prediction, write_detections
from boxel.io import SUFFIXES, split_suffix
from boxel.types import RawDetections


def predict(
    run: Path | str,
    images: Sequence[Path | str] | Dataset,
    out: Path | str,
    *,
    overrides: Sequence[str] = (),
    formats: Sequence[str] = (),
    progress: Progress = silent,
) -> list[Path]:
    """Write one JSON of detections per image into `out`, and every raw box into `out/raw`.

    A stopped prediction continues with the same call: images that this detector has already done are not repeated.

    Args:
        images: image files, DICOM folders, or folders of images (`CASE_0000`, `CASE_0001` are channels of one); or
            the cases of a data set, opened as its layout says.
        formats: further formats (see `convert`), each written into `out/NAME` when all images are done.

    Raises:
        ValueError: an unknown format; an image that cannot be read or does not fit the detector, before or at its
            turn.
    """
    for name in formats:
        get_format(name)
    detector = Detector.load(run, overrides=overrides)
    if isinstance(images, Dataset):
        cases = {case.id: list(case.channels) for case in images.cases}
    else:
        cases = find_images([Path(image) for image in images], len(detector.task.channels))
    out = Path(out)
    written = []
    for done, (case, files) in enumerate(sorted(cases.items())):
        progress("predict", done, len(cases))
        path = out / f"{case}.json"
        written.append(path)
        source = [
            {"file": str(file), "bytes": file.stat().st_size, "modified": file.stat().st_mtime_ns} for file in files
        ]
        stamp = {"detector": detector.fingerprint, "source": source}
        if path.exists() and read_json(path).get("extra") == stamp:
            continue
        image = read_case_image(images[case], images) if isinstance(images, Dataset) else read_channels(files)
        raw, shape = detector.predict_raw(image)
        save_raw(out / "raw" / f"{case}.npz", raw)
        found = detector.finish(raw, shape, image.geometry)
        write_detections(path, found, case, detector.classes, image_files=files, extra=stamp)
    progress("predict", len(cases), len(cases))
    predictions = [read_prediction(path) for path in written] if formats else []
    for name in formats:
        get_format(name).write(out / name, predictions)
    return written


def save_raw(path: Path, raw: RawDetections) -> None:
    """Every box of every view, as compressed numpy arrays."""
    buffer = BytesIO()
    np.savez_compressed(buffer, **{name: value for name, value in vars(raw).items() if value is not None})
    write_bytes(path, buffer.getvalue())


def find_images(paths: Sequence[Path], num_channels: int) -> dict[str, list[Path]]:
    """Files per case. A name that ends in `_0000` and so on is one channel of the case before the number.

    Raises:
        ValueError: nothing there, no image in it, or a case without one of its channels.
    """
    cases: dict[str, list[Path]] = {}
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path}: no such file or folder")
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.name.lower().endswith(tuple(SUFFIXES)))
            if not files and any(file.suffix.lower() in (".dcm", "") for file in path.iterdir() if file.is_file()):
                files = [path]  # a DICOM series
            if not files:
                raise ValueError(
                    f"{path}: no image in this folder; known: {', '.join(sorted(SUFFIXES))} and DICOM series"
                )
        for file in files:
            stem, _ = split_suffix(file)
            head, _, number = stem.rpartition("_")
            cases.setdefault(head if head and len(number) == 4 and number.isdigit() else stem, []).append(file)
    for case, files in cases.items():
        if len(files) not in (1, num_channels):  # one file may hold all channels, as colour pictures do
            raise ValueError(
                f"{files[0]}: case {case!r} has {len(files)} image files, the detector needs one for each of its "
                f"{num_channels} channels ({case}_0000 ...)"
            )
    return cases

"""`boxel predict`."""

import logging
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

from boxel.api.detector import Detector, read_channels
from boxel.api.run import read_run
from boxel.config import did_you_mean, read_json, write_bytes
from boxel.datasets.cases import Dataset, read_case_image
from boxel.datasets.formats import open_dataset
from boxel.export import get_format
from boxel.export.boxel_json import read_prediction, write_detections
from boxel.io import SUFFIXES, list_series, split_suffix
from boxel.types import Progress, RawDetections, silent


def predict(
    run: Path | str,
    images: Sequence[Path | str] | Dataset,
    out: Path | str,
    *,
    overrides: Sequence[str] = (),
    formats: Sequence[str] = (),
    part: str = "all",
    progress: Progress = silent,
) -> list[Path]:
    """Write one JSON of detections per image into `out`, and every raw box into `out/raw`.

    A stopped prediction continues with the same call: images that this detector has already done are not repeated.

    Args:
        images: image files, DICOM folders, or folders of images (`CASE_0000`, `CASE_0001` are channels of one); or
            one data set in any layout, or one folder of many DICOM series.
        formats: further formats (see `convert`), each written into `out/NAME` when all images are done.
        part: the cases of the run's fold that it saw as `train`, `val` or `test`; `all` for every image.

    Raises:
        ValueError: an unknown format; an image that cannot be read or does not fit the detector, before or at its
            turn.
    """
    writers = {name: get_format(name).writer for name in formats}
    detector = Detector.load(run, overrides=overrides)
    found = images if isinstance(images, Dataset) else find_images([Path(image) for image in images])
    dataset = found if isinstance(found, Dataset) else None
    cases = {case.id: list(case.channels) for case in dataset.cases} if dataset else dict(found)  # type: ignore[arg-type]
    _check_names(cases, len(detector.task.channels))
    cases = _choose(cases, Path(run), part)
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
        image = read_case_image(dataset[case], dataset) if dataset else read_channels(files)
        for remark in image.remarks:
            logging.getLogger("boxel").warning(f"{case}: {remark}")
        raw, shape = detector.predict_raw(image)
        save_raw(out / "raw" / f"{case}.npz", raw)
        boxes = detector.finish(raw, shape, image.geometry)
        write_detections(path, boxes, case, detector.classes, image_files=files, extra=stamp)
    progress("predict", len(cases), len(cases))
    predictions = [read_prediction(path) for path in written] if formats else []
    for name, write in writers.items():
        write(out / name, predictions)
    return written


def save_raw(path: Path, raw: RawDetections) -> None:
    """Every box of every view, as compressed numpy arrays."""
    buffer = BytesIO()
    np.savez_compressed(buffer, **{name: value for name, value in vars(raw).items() if value is not None})
    write_bytes(path, buffer.getvalue())


def find_images(paths: Sequence[Path]) -> dict[str, list[Path]] | Dataset:
    """Files per case. A name that ends in `_0000` and so on is one channel of the case before the number.

    A folder without images in it may be a data set in any layout, or hold DICOM series: then its cases.

    Raises:
        ValueError: nothing there, or no image in it.
    """
    cases: dict[str, list[Path]] = {}
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path}: no such file or folder")
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.name.lower().endswith(tuple(SUFFIXES)))
            if not files and list_series(path):
                files = [path]
            if not files and len(paths) == 1:
                return open_images(path)
            if not files:
                raise ValueError(
                    f"{path}: no image in this folder; known: {', '.join(sorted(SUFFIXES))} and DICOM series"
                )
        for file in files:
            stem = split_suffix(file)[0] if file.is_file() else file.resolve().name
            head, _, number = stem.rpartition("_")
            cases.setdefault(head if head and len(number) == 4 and number.isdigit() else stem, []).append(file)
    return cases


def open_images(path: Path, format: str = "", options: Sequence[str] = ()) -> Dataset:  # noqa: A002
    """The cases of a data set; of DICOM folders every series, whether annotated or not."""
    dataset = open_dataset(path, format=format, options=options)
    bare = dataset.format == "dicom" and not any(option.startswith("negatives=") for option in options)
    return open_dataset(path, format="dicom", options=[*options, "negatives=true"]) if bare else dataset


def _check_names(cases: Mapping[str, Sequence[Path]], num_channels: int) -> None:
    for case, files in cases.items():
        if Path(case).name != case or case.startswith("."):
            raise ValueError(f"case {case!r}: cannot be a file name; rename it without / and leading dot")
        if not files:
            raise ValueError(f"case {case!r}: has no image; add it, the annotation alone was found")
        if len(files) not in (1, num_channels):  # one file may hold all channels, as colour pictures do
            raise ValueError(
                f"{files[0]}: case {case!r} has {len(files)} image files, the detector needs one for each of its "
                f"{num_channels} channels ({case}_0000 ...)"
            )


def _choose(cases: dict[str, list[Path]], run: Path, part: str) -> dict[str, list[Path]]:
    """The cases of one part of the run's fold."""
    split = read_run(run)[2]
    parts = {"train": split.train, "val": split.val, "test": split.test}
    if part == "all":
        seen = sorted(cases.keys() & set(split.train))
        if seen:
            logging.getLogger("boxel").warning(
                f"{len(seen)} of {len(cases)} images may be those the run was trained on, such as {seen[0]}; "
                "figures on them flatter, --part test leaves them out"
            )
        return cases
    if part not in parts:
        raise ValueError(f"part {part!r}{did_you_mean(part, [*parts, 'all'])}")
    lost = sorted(set(parts[part]) - cases.keys())
    if lost or not parts[part]:
        what = f"case {lost[0]!r} is not among the images" if lost else f"its fold has no {part} cases"
        raise ValueError(f"{run}: {what}; give the data set that the run was trained on, or leave out --part")
    return {case: cases[case] for case in parts[part]}

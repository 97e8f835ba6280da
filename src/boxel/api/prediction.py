"""`boxel predict`."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from boxel.api.channel_files import RunImages
from boxel.api.detector import Detector
from boxel.api.prediction_inputs import Images, find_images, images_of
from boxel.api.run import RunSplit
from boxel.caps import warn_of_caps
from boxel.config import Config, did_you_mean, read_json
from boxel.consolidation import RawPrediction, write_raw
from boxel.datasets.cases import Dataset
from boxel.export import get_format
from boxel.export.boxel_json import read_prediction, write_detections
from boxel.inference.segmentation import paint
from boxel.io import write_label_map
from boxel.output_folder import claimed
from boxel.types import Progress, silent


def predict(
    run: Path | str,
    images: Path | str | Sequence[Path | str] | Dataset,
    out: Path | str,
    *,
    overrides: Sequence[str] = (),
    formats: Sequence[str] = (),
    part: str = "all",
    trust: bool = False,
    progress: Progress = silent,
) -> list[Path]:
    """Write one JSON of detections per image into `out`, and every raw box into `out/raw`.

    With the setting `predict.segmentation`, also write the label map `out/CASE_seg.nii.gz` on the grid of the image;
    the JSON names its values. Repeat the call to resume an interrupted prediction: images that are done are skipped.

    Args:
        run: the run folder.
        images: image files, DICOM files, or folders of these and of further folders; or one data set in any layout.
            In a run on several channels, the files `CASE_0000`, `CASE_0001` ... are those of one image.
        out: a new or empty folder, or one that this run predicted into with the same settings.
        overrides: settings such as `predict.views=identity`.
        formats: further formats (see `convert`), each written into `out/NAME` when all images are done.
        part: only the `train`, `val` or `test` cases of the run's fold; `all` for every image.
        trust: import the plug-in files in the run folder, where the run uses some; they are code.

    Raises:
        ValueError: an unknown format; an image that cannot be read or does not fit the detector; `out` holds anything
            else.
    """
    writers = {name: get_format(name).writer for name in formats}
    detector = Detector.load(run, overrides=overrides, trust=trust)
    layout = RunImages.of(detector.task, RunSplit.load(Path(run) / "split.json"))
    if isinstance(images, Dataset):
        inputs = images_of(images, layout)
    else:
        paths = [images] if isinstance(images, str | Path) else images
        inputs = find_images([Path(path) for path in paths], layout, skip=Path(out))
    logging.getLogger("boxel").log(logging.WARNING if inputs.left_out else logging.INFO, inputs)
    cases = {name: list(case.channels) for name, case in inputs.cases.items()}
    _check_names(cases, len(detector.task.channels))
    cases = _choose(cases, Path(run), part)
    out = Path(out)
    job = settings_of(predict=detector.predict_config, consolidate=detector.consolidate_config)
    job |= {"weights": detector.weights, "plan.max_detections": detector.task.max_detections}
    with claimed(out, "predict", job, source=f"the run {Path(run).resolve()}", cases=cases):
        written = _predict_cases(detector, cases, inputs, out, progress)
        predictions = [read_prediction(path) for path in written] if formats else []
        for name, write in writers.items():
            write(out / name, predictions)
    return written


def _predict_cases(
    detector: Detector, cases: Mapping[str, Sequence[Path]], inputs: Images, out: Path, progress: Progress
) -> list[Path]:
    written, capped = [], 0
    for done, (case, files) in enumerate(sorted(cases.items())):
        progress("predict", done, len(cases))
        written.append(out / f"{case}.json")
        stamp = stamp_of(detector, case, files)
        if is_done(written[-1], stamp):
            capped += read_json(written[-1]).get("capped", False)
            continue
        image = inputs.read(case)
        for remark in image.remarks:
            logging.getLogger("boxel").warning(f"{case}: {remark}")
        raw, probabilities, shape = detector.predict_raw(image)
        prediction = RawPrediction(
            case, raw, shape, image.geometry, detector.classes, detector.consolidation_of(shape), tuple(files), stamp,
            detector.views,
        )  # fmt: skip
        write_raw(out / "raw" / f"{case}.npz", prediction)
        if probabilities is not None:
            labels = paint(probabilities, image.geometry.shape)
            write_label_map(segmentation_file(out, case), labels, image.geometry)
        detections = prediction.consolidate()
        capped += detections.capped
        # Last, as it says that all else is there.
        write_detections(written[-1], detections, case, detector.classes, image_files=files, extra=stamp)
    progress("predict", len(cases), len(cases))
    warn_of_caps(capped, len(cases))
    return written


def settings_of(**configs: Config) -> dict[str, Any]:
    """Every setting by its dotted key, as after `--set`."""
    return {f"{name}.{key}": value for name, config in configs.items() for key, value in config.to_dict().items()}


def stamp_of(detector: Detector, case: str, files: Sequence[Path]) -> dict[str, Any]:
    """What a prediction is made from; with a segmentation, also its file and the meaning of its values."""
    source = [{"file": str(file), "bytes": file.stat().st_size, "modified": file.stat().st_mtime_ns} for file in files]
    stamp: dict[str, Any] = {"detector": detector.fingerprint, "source": source}
    if detector.predict_config.segmentation:
        names = ("background", *detector.segmentation_classes)
        values = {str(value): name for value, name in enumerate(names)}
        stamp["segmentation"] = {"file": segmentation_file(Path(), case).name, "values": values}
    return stamp


def is_done(path: Path, stamp: Mapping[str, Any]) -> bool:
    """Whether a prediction with this stamp is complete.

    Raises:
        ValueError: the file exists but is not a prediction, and must not be overwritten.
    """
    content = read_json(path) if path.exists() else {}
    before = (content.get("extra") or {}) if isinstance(content, dict) else None
    if not isinstance(before, dict):
        raise ValueError(f"{path}: exists but is not a prediction of Boxel; move it, or choose another folder")
    label_map = segmentation_file(path.parent, path.name.removesuffix(".json"))
    return before == stamp and ("segmentation" not in stamp or label_map.exists())


def segmentation_file(out: Path, case: str) -> Path:
    return out / f"{case}_seg.nii.gz"


def _check_names(cases: Mapping[str, Sequence[Path]], num_channels: int) -> None:
    for case, files in cases.items():
        if Path(case).name != case or case.startswith("."):
            raise ValueError(f"case {case!r}: cannot be a file name; rename it without / and leading dot")
        if not files:
            raise ValueError(f"case {case!r}: has an annotation but no image; add the image")
        if len(files) not in (1, num_channels):  # one file may hold all channels, as colour pictures do
            raise ValueError(
                f"{files[0]}: case {case!r} has {len(files)} image files, the detector needs one for each of its "
                f"{num_channels} channels ({case}_0000 ...)"
            )


def _choose(cases: dict[str, list[Path]], run: Path, part: str) -> dict[str, list[Path]]:
    """The cases of one part of the run's fold; all of them with a warning where the run was trained on some."""
    split = RunSplit.load(run / "split.json")
    parts = {"train": split.train, "val": split.val, "test": split.test}
    if part == "all":
        seen = sorted(cases.keys() & set(split.train))
        if seen:
            logging.getLogger("boxel").warning(
                f"{len(seen)} of {len(cases)} images may be those the run was trained on, such as {seen[0]}; "
                "metrics on training images are optimistic, --part test leaves them out"
            )
        return cases
    if part not in parts:
        raise ValueError(f"part {part!r}{did_you_mean(part, [*parts, 'all'])}")
    lost = sorted(set(parts[part]) - cases.keys())
    if lost or not parts[part]:
        what = f"case {lost[0]!r} is not among the images" if lost else f"its fold has no {part} cases"
        raise ValueError(f"{run}: {what}; give the data set that the run was trained on, or leave out --part")
    return {case: cases[case] for case in parts[part]}

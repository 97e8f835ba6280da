"""`boxel predict`."""

import logging
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from boxel.api.case_prediction import CaseResult, is_done, predict_case, stamp_of
from boxel.api.channel_files import RunImages
from boxel.api.chosen_cases import chosen_cases, slice_of_shard
from boxel.api.detector import Detector
from boxel.api.given_boxes import read_given
from boxel.api.prediction_inputs import Images, find_images, images_of
from boxel.api.ray_prediction import RayWork
from boxel.api.run import RunSplit
from boxel.api.run_points import NO_CASES, UNKNOWN
from boxel.caps import warn_of_caps
from boxel.config import Config
from boxel.datasets.cases import Dataset
from boxel.datasets.names import NAMES_OF_CASES, NO_FILE_NAME, can_name_files
from boxel.export import get_format
from boxel.export.boxel_json import read_prediction
from boxel.export.prediction import Prediction
from boxel.inputs.texts import read_json
from boxel.locks import LockedError, locked
from boxel.models.base import no_given_boxes, segments_boxes
from boxel.operating_points import Shown
from boxel.output_folder import case_file, claimed, lock_of_case
from boxel.types import Progress, silent
from boxel.wording import counted, counted_of


def predict(
    run: Path | str,
    images: Path | str | Sequence[Path | str] | Dataset,
    out: Path | str,
    *,
    ensemble: Sequence[Path | str] = (),
    overrides: Sequence[str] = (),
    formats: Sequence[str] = (),
    boxes: Path | str | None = None,
    part: str = "all",
    cases: Collection[str] | None = None,
    shard: str = "",
    ray: str = "",
    workers: int | None = None,
    device: str | None = None,
    trust: bool = False,
    force: bool = False,
    shown: Shown = Shown(),  # noqa: B008 (frozen)
    progress: Progress = silent,
) -> list[Path]:
    """Write one JSON of detections per image into `out`, and every raw box into `out/raw`.

    With the setting `predict.segmentation`, also write the label map `CASE_seg.nii.gz` on the grid of the image; the
    JSON names its values, and the formats `dicom-seg`, `nifti` and `preview` have it too. More than 10,000 cases are
    divided among subfolders. Repeat the call to resume an interrupted prediction: images that are done are skipped.
    Images that cannot be predicted do not stop the others.

    Args:
        run: the run folder.
        images: image files, DICOM files, or folders of these and of further folders; or one data set in any layout.
            In a run on several channels, the files `CASE_0000`, `CASE_0001` ... are those of one image.
        out: a new or empty folder, or one that this run predicted into with the same settings.
        ensemble: folders of further runs of the same task that vote too, such as the other folds (`--with`). Settings
            and `part` are those of `run`.
        overrides: settings such as `predict.views=identity`.
        formats: further formats (see `convert`), each written into `out/NAME` when all images are done.
        boxes: predictions of the same images, by any detector and in any format of `convert`: the second stage of this
            run (of the model `lsnet`) segments them. Needs `predict.segmentation`; other settings of the prediction
            have no effect and are refused.
        part: only the `train`, `val` or `test` cases of the run's fold; `all` for every image.
        cases: only these of them, by their names; None for all.
        shard: `"i/n"` predicts the i-th of n parts of the cases, i from 1. Any number of these may run at the same
            time, on machines that share `out`; the same call without `shard` completes what is missing.
        ray: predict on a Ray cluster: `"local"` starts one in this machine, anything else is the address of one. Each
            worker keeps the models loaded; run, images and `out` are on storage that all machines share.
        workers: number of workers on the cluster; None: one per GPU, or per as many cores as this process uses.
        device: where to compute: `auto`, `cpu`, `cuda` or `mps`; not with `ray`, whose workers take the GPUs they have.
        trust: import the plug-in files in the run folder, where the run uses some; they are code.
        force: predict images of another modality than the training images, with a warning.
        shown: which detections are marked as above the threshold; the formats that people look at have only these.

    Returns:
        The JSON files, one per image.

    Raises:
        ValueError: an unknown format; no such operating point; runs of different tasks; `formats` with `shard`; no
            Ray, or no cluster at that address; `out` holds anything else. When all other images are done: those that
            cannot be read or do not fit the detector, a line for each; `formats` are not written then.
    """
    writers = {name: get_format(name).writer_of_shown for name in formats}
    own_part = slice_of_shard(shard, formats)
    if workers is not None and (not ray or workers < 1):
        raise ValueError(f"--workers {workers}: must be at least 1 and needs --ray; add --ray local, or leave it out")
    if ray and device not in (None, "auto"):
        raise ValueError(
            f"--device {device}: has no effect with --ray, whose workers take the GPUs they have; leave it out"
        )
    runs = [Path(run), *map(Path, ensemble)]
    device = "cpu" if ray else device
    detector = Detector.load(run, ensemble=ensemble, overrides=overrides, trust=trust, device=device, shown=shown)
    split = RunSplit.load(runs[0] / "split.json")
    layout = replace(RunImages.of(detector.task, split), force=force)
    if isinstance(images, Dataset):
        inputs = images_of(images, layout)
    else:
        paths = [images] if isinstance(images, str | Path) else images
        inputs = find_images([Path(path) for path in paths], layout, skip=Path(out))
    logging.getLogger("boxel").log(logging.WARNING if inputs.left_out else logging.INFO, inputs)
    points = detector.operating_points
    if boxes is None:
        known = f"marked as above the threshold: {points}" if points else f"{run}: {UNKNOWN if split.val else NO_CASES}"
        logging.getLogger("boxel").log(logging.INFO if points else logging.WARNING, known)
    files = {name: list(case.channels) for name, case in inputs.cases.items()}
    _check_names(files, len(detector.task.channels))
    files = chosen_cases(files, runs, part, cases)
    out, everything = Path(out), sorted(files)
    if boxes is not None:
        _check_effect([*overrides, *shown.to_dict()])
        inputs = _with_boxes(inputs, files, detector, Path(boxes), runs)
    files = {case: files[case] for case in everything[own_part]}
    job = settings_of(predict=detector.predict_config, consolidate=detector.consolidate_config)
    job |= {"--boxes": str(Path(boxes).resolve())} if boxes is not None else {}
    if not (points and points.points):
        del job["predict.calibrate"]
    job |= shown.to_dict()
    job |= {"weights": detector.weights, "plan.max_detections": detector.task.max_detections}
    source = ", ".join(str(one.resolve()) for one in runs)
    with claimed(out, "predict", job, source=f"the run {source}", shared=bool(shard), cases=everything):
        work = RayWork(ray, runs, tuple(overrides), trust, workers, shown) if ray else None
        written, failures = _predict_cases(detector, files, inputs, out, len(everything), work, progress)
        if failures:
            later = f", or `boxel convert --to {formats[0]}` without them" if formats else ""
            raise ValueError(
                f"{len(failures):,} of {counted(len(files), 'image')} could not be predicted; rerun the command to "
                f"try these again{later}:\n" + "\n".join(failures)
            )
        predictions = [read_prediction(path) for path in written] if formats else []
        _write_formats(writers, out, predictions)
    return written


def _write_formats(writers: Mapping[str, Any], out: Path, predictions: Sequence[Prediction]) -> None:
    """Write all formats that can be written; then raise ValueError if one could not."""
    problems = []
    for name, write in writers.items():
        try:
            write(out / name, predictions)
        except ValueError as error:
            problems.append(f"--to {name}: {error}")
    if problems:
        raise ValueError("\n".join(problems))


def _predict_cases(
    detector: Detector,
    cases: Mapping[str, Sequence[Path]],
    inputs: Images,
    out: Path,
    num_cases: int,
    work: RayWork | None,
    progress: Progress,
) -> tuple[list[Path], list[str]]:
    """The files of all cases, and the reasons, by case, why some are missing."""
    written = {case: case_file(out, case, ".json", num_cases) for case in cases}
    rest = [case for case, path in written.items() if not _is_done(detector, case, cases[case], inputs, path)]
    failures = {}
    capped = sum(read_json(written[case]).get("capped", False) for case in cases.keys() - set(rest))
    if work:
        results = work.predict(detector.fingerprint, inputs, rest, out, num_cases)
    else:
        results = _one_by_one(detector, inputs, rest, out, num_cases)
    begin, empty = len(cases) - len(rest), 0
    if begin:
        reused = counted_of(begin, len(cases), "image", "was predicted before and is", "were predicted before and are")
        logging.getLogger("boxel").info(f"{reused} reused")
    progress("predict", begin, len(cases))
    for done, result in enumerate(results, begin + 1):
        for remark in result.remarks:
            logging.getLogger("boxel").warning(f"{result.case}: {remark}")
        capped += result.capped
        empty += result.empty
        if result.failure:
            failures[result.case] = result.failure
        progress("predict", done, len(cases))
    warn_of_caps(capped, len(cases))
    if rest and empty == len(cases):
        logging.getLogger("boxel").warning(
            f"every segmentation is empty ({counted(empty, 'image')}): no voxel is more likely an object than "
            "background; perhaps the model was trained for too few steps (a small one needs some hundreds), see the "
            "losses in the metrics.jsonl of the run"
        )
    return list(written.values()), [failures[case] for case in sorted(failures)]


def _one_by_one(
    detector: Detector, inputs: Images, cases: Sequence[str], out: Path, num_cases: int
) -> Iterator[CaseResult]:
    """Predict the cases; those that another process works on come last, when it has ended or done them."""
    busy = []
    for case in cases:
        try:
            yield _locked_case(detector, inputs, case, out, num_cases)
        except LockedError:
            busy.append(case)
    for case in busy:
        yield _locked_case(detector, inputs, case, out, num_cases, patience=math.inf)


def _locked_case(
    detector: Detector, inputs: Images, case: str, out: Path, num_cases: int, patience: float = 0.0
) -> CaseResult:
    with locked(out, "boxel predict", lock_of_case(case), patience=patience):
        path = case_file(out, case, ".json", num_cases)
        if _is_done(detector, case, inputs.cases[case].channels, inputs, path):
            return CaseResult(case, capped=read_json(path).get("capped", False))  # by another process, meanwhile
        return predict_case(detector, inputs, case, out, num_cases)


def _is_done(detector: Detector, case: str, files: Sequence[Path], inputs: Images, path: Path) -> bool:
    if not path.exists():
        return False
    try:
        stamp = stamp_of(detector, case, files, inputs.given.get(case))
    except (OSError, ValueError):  # reported when it is predicted
        return False
    return is_done(path, stamp)


def _check_effect(overrides: Sequence[str]) -> None:
    """Refuse settings of the detection, which given boxes replace."""
    for key in (assignment.partition("=")[0].strip() for assignment in overrides):
        if key.startswith(("--", "predict.", "consolidate.")) and key != "predict.segmentation":
            name = "--masks" if key == "predict.masks" else key if key.startswith("--") else f"--set {key}"
            raise ValueError(f"{name} has no effect with --boxes, which are segmented as they are; leave it out")


def _with_boxes(inputs: Images, cases: Iterable[str], detector: Detector, boxes: Path, runs: Sequence[Path]) -> Images:
    """The images with the boxes that are to be segmented."""
    if not detector.predict_config.segmentation:
        raise ValueError("--boxes are segmented, and nothing else is done with them; add --segmentation")
    owners = [run for run, number in zip(runs, detector.checkpoints, strict=True) for _ in range(number)]
    for run, model in zip(owners, detector.models, strict=True):
        if not segments_boxes(model):
            raise ValueError(f"{run}: {no_given_boxes(model)}, or leave out --boxes")
    return replace(inputs, given=read_given(boxes, {case: inputs.cases[case] for case in cases}, detector.classes))


def settings_of(**configs: Config) -> dict[str, Any]:
    """Every setting by its dotted key, as after `--set`."""
    return {f"{name}.{key}": value for name, config in configs.items() for key, value in config.to_dict().items()}


def _check_names(cases: Mapping[str, Sequence[Path]], num_channels: int) -> None:
    for case, files in cases.items():
        if not can_name_files(case):
            raise ValueError(f"case {case!r:.200}: {NO_FILE_NAME}; {NAMES_OF_CASES}")
        if not files:
            raise ValueError(f"case {case!r}: has an annotation but no image; add the image")
        if len(files) not in (1, num_channels):  # one file may hold all channels, as colour pictures do
            raise ValueError(
                f"{files[0]}: case {case!r} has {len(files)} image files, the detector needs one for each of its "
                f"{num_channels} channels ({case}_0000 ...)"
            )

"""The files that `boxel predict` writes for one case: its raw boxes, its segmentation, its detections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boxel.api.detector import Detector
from boxel.api.given_boxes import GivenBoxes
from boxel.api.prediction_inputs import Images
from boxel.consolidation import RawPrediction, write_raw
from boxel.export.boxel_json import segmentation_file, write_detections
from boxel.inputs.signatures import sample
from boxel.inputs.texts import read_json
from boxel.io import write_label_map
from boxel.output_folder import case_file
from boxel.slabs import Voxels
from boxel.types import Image

__all__ = ["CaseResult", "is_done", "predict_case", "stamp_of"]


@dataclass(frozen=True)
class CaseResult:
    """A case that was predicted, or could not be.

    Attributes:
        case: its name.
        capped: whether detections were left out.
        empty: whether it was segmented and everything is background.
        remarks: what its image files say that a user should know.
        failure: the file and the reason in one line, if it cannot be read or does not fit; nothing is written then.
    """

    case: str
    capped: bool = False
    empty: bool = False
    remarks: Sequence[str] = ()
    failure: str = ""


def predict_case(detector: Detector, inputs: Images, case: str, out: Path, num_cases: int) -> CaseResult:
    """Predict a case and write its files; `num_cases` in all go into `out`."""
    files = list(inputs.cases[case].channels)
    try:
        image, stamp = inputs.read(case), stamp_of(detector, case, files, inputs.given.get(case))
        uid = getattr(inputs.cases[case].opener, "uid", None)
        unlike = detector.differences(image, files[0], uid, modality=inputs.run.force)
    except (ValueError, OSError) as error:
        return CaseResult(case, failure=_reason(files[0], error))
    path = case_file(out, case, ".json", num_cases)
    given = inputs.given.get(case)
    if given:
        return _segment_given(detector, given, image, case, path, stamp, files, unlike)
    try:
        raw, labels, shape = detector.predict_raw(image, name=str(files[0]))
    except ValueError as error:
        return CaseResult(case, failure=_reason(files[0], error))
    prediction = RawPrediction(
        case, raw, shape, image.geometry, detector.classes, detector.consolidation_of(shape), tuple(files), stamp,
        detector.views, detector.operating_points, unlike,
    )  # fmt: skip
    write_raw(case_file(out / "raw", case, ".npz", num_cases), prediction)
    if labels is not None:
        write_label_map(segmentation_file(path.parent, case), labels, image.geometry)
    detections = prediction.consolidate()
    # Last, as it says that all else is there.
    points = detector.operating_points
    write_detections(
        path, detections, case, detector.classes, image_files=files, extra=stamp, operating_points=points,
        warnings=unlike,
    )  # fmt: skip
    empty = labels is not None and not labels.any()
    return CaseResult(case, detections.capped, empty, (*image.remarks, *unlike))


def _segment_given(
    detector: Detector, given: GivenBoxes, image: Image[Voxels], case: str, path: Path, stamp: Any, files: list[Path],
    unlike: tuple[str, ...],
) -> CaseResult:  # fmt: skip
    """Write the label map of a case in given boxes, and these."""
    try:
        labels = detector.segment_boxes(image, given.on(image.geometry), name=str(files[0]))
    except ValueError as error:
        return CaseResult(case, failure=_reason(files[0], error))
    write_label_map(segmentation_file(path.parent, case), labels, image.geometry)
    write_detections(path, given.detections, case, given.classes, image_files=files, extra=stamp, warnings=unlike)
    return CaseResult(case, empty=not labels.any(), remarks=(*image.remarks, *unlike))


def _reason(file: Path, error: Exception) -> str:
    text = " ".join(str(error.strerror or error if isinstance(error, OSError) else error).split())
    return text if str(file) in text else f"{file}: {text}"


def stamp_of(detector: Detector, case: str, files: Sequence[Path], given: GivenBoxes | None = None) -> dict[str, Any]:
    """What a prediction is made from; with a segmentation, also its file and the meaning of its values.

    Args:
        given: the boxes to segment.
    """
    source = [
        {"file": str(f), "bytes": f.stat().st_size, "modified": f.stat().st_mtime_ns, "sample": sample(f)}
        for f in files
    ]
    stamp: dict[str, Any] = {"detector": detector.fingerprint, "source": source}
    if given:
        stamp["boxes"] = given.digest
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

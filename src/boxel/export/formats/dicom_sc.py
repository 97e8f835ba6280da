"""DICOM secondary capture: `CASE_sc.dcm`, a colour picture of a slice with the boxes drawn, which every viewer shows.

There is a picture of the slice through the middle of each detection, in the order of the slices: `CASE_sc_2.dcm` and so
on. Boxes and scores are pixels there; nothing can be measured or hidden.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boxel.export.dicom_display import file_window, shown_image
from boxel.export.dicom_source import (
    Source,
    keep_patient_name,
    made_by,
    planes_of,
    rectangle,
    same_uid,
    save,
    source_of,
    warn_of_none,
)
from boxel.export.prediction import Prediction
from boxel.export.registry import register_export
from boxel.io.display import class_colour, draw_box, draw_text, to_picture
from boxel.output_folder import case_file

SUFFIX = "_sc.dcm"
LEAST = 512  # pixels along the shorter side, so that boxes and texts are sharp


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/CASE_sc.dcm` and further files for each case; none for a case without detections.

    Raises:
        ValueError: see `source_of`; the extra `dicom` is not installed.
    """
    return [path for prediction in predictions for path in _write_case(out, prediction)]


def _write_case(out: Path, prediction: Prediction) -> list[Path]:
    source, shape = source_of(prediction), prediction.geometry.shape
    crossed = [(entry, planes_of(entry[1], shape)) for entry in prediction.ranking]
    middles = sorted({planes[len(planes) // 2] for _, planes in crossed if planes})
    if not middles:
        warn_of_none(prediction.case, "secondary capture")
        return []
    channels, own = shown_image(prediction)
    stack, paths = channels.reshape(len(channels), -1, *shape[-2:]), []
    for number, plane in enumerate(middles, start=1):
        window = file_window(source, plane)
        inverted = source.headers[0].get("PhotometricInterpretation") == "MONOCHROME1"
        chosen = own
        if window and not inverted and len(channels) == 1:
            chosen = window.centre - window.width / 2, window.centre + window.width / 2
        boxes = [entry for entry, planes in crossed if plane in planes]
        picture = _draw(to_picture(stack[:, plane], chosen), boxes, prediction.classes)
        draw_text(picture, f"Boxel detections, slice {plane + 1} of {len(stack[0])}", (4, 2), "white")
        paths.append(case_file(out, prediction.case, SUFFIX if number == 1 else f"_sc_{number}.dcm"))
        save(_capture(np.asarray(picture), source, plane, number), paths[-1])
    return paths


def _draw(picture: Any, boxes: Sequence[tuple[int, np.ndarray, float, str]], classes: Sequence[str]) -> Any:
    """The picture in colour, enlarged, with the boxes of a plane, the one of the highest score on top."""
    factor = max(1, -(-LEAST // min(picture.size)))
    picture = picture.convert("RGB").resize([factor * side for side in picture.size])
    size = picture.size[::-1]
    for _, box, score, name in reversed(boxes):
        colour, corners = class_colour(classes.index(name)), rectangle(factor * box, size)
        draw_box(picture, (*corners[0], *corners[2]), colour)
        draw_text(picture, f"{name} {100 * score:.0f}%", (corners[0, 0], corners[2, 1] + 2), colour)
    return picture


def _capture(pixels: np.ndarray, source: Source, plane: int, number: int) -> Any:
    """The picture of a plane as an object of the same study."""
    import highdicom as hd
    from pydicom import Dataset
    from pydicom.uid import RLELossless

    (header, frame), entry, made = source.at(plane), source.planes[plane], made_by()
    factor = pixels.shape[0] // int(header.Rows)
    with keep_patient_name():
        capture = hd.sc.SCImage.from_ref_dataset(
            header,
            pixels,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "P"),  # replaced below
            pixel_spacing=tuple(step / factor for step in entry.spacing),  # type: ignore[arg-type]
            series_instance_uid=same_uid("sc series", source.series),
            series_number=905,
            sop_instance_uid=same_uid("sc", source.series, number, pixels.tobytes()),
            instance_number=number,
            manufacturer=made["manufacturer"],
            manufacturer_model_name=made["manufacturer_model_name"],
            software_versions=made["software_versions"],
            series_description="Boxel detections",
            transfer_syntax_uid=RLELossless,
        )
    sides = header.get("PatientOrientation", "") if entry.axes is None else [_side(axis) for axis in entry.axes]
    capture.PatientOrientation, capture.Laterality = sides, header.get("Laterality", "")
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    if frame:
        item.ReferencedFrameNumber = frame
    capture.SourceImageSequence = [item]
    capture.DerivationDescription = "Boxes of detections drawn on the image"
    return capture


def _side(axis: np.ndarray) -> str:
    """The side of the patient to which an axis in LPS runs: left, right, posterior, anterior, head or feet."""
    main = int(np.abs(axis).argmax())
    return ("LPH" if axis[main] > 0 else "RAF")[main]


# Of 2D images only DICOM files can be drawn, and those of the public check are NIfTI.
register_export("dicom-sc", write, ndims=(3,), for_viewers=True)

"""DICOM presentation state (GSPS): `CASE_pr.dcm`, the box of each detection on each slice that it crosses.

Workstations show it over the images, and can hide it. A class is a layer with its colour. A presentation state has one
meaning of stored voxels; images whose slices differ in it (PET) have `CASE_pr_2.dcm` and so on.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from boxel.export.dicom_display import values_of, windows_of
from boxel.export.dicom_source import (
    Source,
    keep_patient_name,
    made_by,
    object_uid,
    planes_of,
    rectangle,
    same_uid,
    save,
    source_of,
    warn_of_none,
)
from boxel.export.prediction import Prediction
from boxel.export.registry import register_export
from boxel.io.display import class_colour
from boxel.output_folder import case_file

SUFFIX = "_pr.dcm"


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/CASE_pr.dcm` for each case; none for a case without detections.

    Raises:
        ValueError: see `source_of`; a colour image; the extra `dicom` is not installed.
    """
    return [path for prediction in predictions for path in _write_case(out, prediction)]


def _write_case(out: Path, prediction: Prediction) -> list[Path]:
    source = source_of(prediction)
    if int(source.headers[0].SamplesPerPixel) > 1:
        raise ValueError(
            f"case {prediction.case!r}: presentation states are of grey images, and this one has colours; write "
            "dicom-sc or dicom-sr"
        )
    drawn = _annotations(prediction, source)
    if not drawn:
        warn_of_none(prediction.case, "presentation state")
        return []
    alike = defaultdict(list)
    for plane in range(len(source.planes)):
        alike[values_of(source, plane)].append(plane)
    paths: list[Path] = []
    for planes in alike.values():
        if any(plane in drawn for plane in planes):
            number = len(paths) + 1
            paths.append(case_file(out, prediction.case, SUFFIX if number == 1 else f"_pr_{number}.dcm"))
            save(_state(prediction, source, planes, drawn, number), paths[-1])
    return paths


def _annotations(prediction: Prediction, source: Source) -> dict[int, list[Any]]:
    """The annotations on each plane that has some: one for each class."""
    import highdicom as hd

    shape, layers = prediction.geometry.shape, _layers(prediction)
    drawn: dict[tuple[int, str], tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
    for number, (_, box, score, name) in enumerate(prediction.ranking, start=1):
        corners = rectangle(box, shape)
        tracking: dict[str, Any] = {
            "tracking_id": f"{name} {number}"[:64],
            "tracking_uid": object_uid(source, box, score, name),
        }
        text = f"{tracking['tracking_id']}: {100 * score:.0f}%"
        for plane in planes_of(box, shape):
            boxes, texts = drawn[plane, name]
            boxes.append(hd.pr.GraphicObject("POLYLINE", corners, "PIXEL", **tracking))
            texts.append(
                hd.pr.TextObject(
                    text, "PIXEL", anchor_point=tuple(corners[0].tolist()), anchor_point_visible=False, **tracking
                )
            )
    annotations = defaultdict(list)
    for (plane, name), (boxes, texts) in drawn.items():
        header, frame = source.at(plane)
        annotations[plane].append(hd.pr.GraphicAnnotation([header], layers[name], frame, None, boxes, texts))
    return annotations


def _layers(prediction: Prediction) -> dict[str, Any]:
    import highdicom as hd

    return {
        name: hd.pr.GraphicLayer(
            f"CLASS{label}", label + 1, name[:64], hd.color.CIELabColor.from_string(class_colour(label))
        )
        for label, name in enumerate(prediction.classes)
    }


def _state(
    prediction: Prediction, source: Source, planes: Sequence[int], drawn: dict[int, list[Any]], number: int
) -> Any:
    """The presentation state of planes whose stored voxels mean the same."""
    import highdicom as hd

    first = source.headers[0]
    uids = {source.at(plane)[0].SOPInstanceUID for plane in planes}
    annotations = [annotation for plane in planes for annotation in drawn.get(plane, ())]
    used = {annotation.GraphicLayer for annotation in annotations}
    content = [(box.tolist(), score, name) for _, box, score, name in prediction.ranking]
    slope, intercept, unit = values_of(source, planes[0])
    inverse = first.get("PhotometricInterpretation") == "MONOCHROME1"
    with keep_patient_name():
        state = hd.pr.GrayscaleSoftcopyPresentationState(
            referenced_images=[header for header in source.headers if header.SOPInstanceUID in uids],
            graphic_annotations=annotations,
            graphic_layers=[layer for layer in _layers(prediction).values() if layer.GraphicLayer in used],
            series_instance_uid=same_uid("pr series", source.series),
            series_number=904,
            sop_instance_uid=same_uid("pr", source.series, number, content),
            instance_number=number,
            content_label="DETECTIONS",
            content_description="Boxes of detections",
            series_description="Boxel detections",
            modality_lut_transformation=hd.ModalityLUTTransformation(intercept, slope, unit),
            voi_lut_transformations=_windows(prediction, source, planes),
            presentation_lut_transformation=hd.PresentationLUTTransformation("INVERSE" if inverse else "IDENTITY"),
            **made_by(),
        )
    spacing = source.planes[planes[0]].spacing
    ratio = [max(1, round(1000 * step / max(spacing))) for step in spacing]  # highdicom takes all pixels for squares
    state.DisplayedAreaSelectionSequence[0].PresentationPixelAspectRatio = ratio
    state.Laterality = first.get("Laterality", "")
    if source.is_multi_frame and len(planes) < len(source.planes):  # highdicom refers to all frames
        state.ReferencedSeriesSequence[0].ReferencedImageSequence = _references(source, planes)
    return state


def _windows(prediction: Prediction, source: Source, planes: Sequence[int]) -> list[Any]:
    """The windows of the planes, each with the planes that it is for unless it is for all."""
    import highdicom as hd

    shown = defaultdict(list)
    for plane, window in zip(planes, windows_of(prediction, source, planes), strict=True):
        shown[window].append(plane)
    transformations: list[Any] = []
    for (centre, width, kind), its in shown.items():
        transformations.append(hd.pr.SoftcopyVOILUTTransformation(centre, width, voi_lut_function=kind))
        if len(shown) > 1:
            transformations[-1].ReferencedImageSequence = _references(source, its)
    return transformations


def _references(source: Source, planes: Iterable[int]) -> list[Any]:
    """The files of planes, and in multi-frame files their frames."""
    from pydicom import Dataset

    frames: dict[tuple[str, str], list[int]] = defaultdict(list)
    for header, frame in map(source.at, planes):
        frames[header.SOPClassUID, header.SOPInstanceUID] += [frame] if frame else []
    items = []
    for (kind, uid), numbers in frames.items():
        items.append(Dataset())
        items[-1].ReferencedSOPClassUID, items[-1].ReferencedSOPInstanceUID = kind, uid
        if numbers:
            items[-1].ReferencedFrameNumber = numbers
    return items


# Of 2D images only DICOM files can be shown, and those of the public check are NIfTI.
register_export("dicom-pr", write, ndims=(3,), for_viewers=True)

"""DICOM structured report, TID 1500: `CASE_sr.dcm`, one or two measurement groups per detection.

DICOM has no box. The first group (TID 1410) is what viewers draw: a rectangle in pixels of the image, in 3D on the
slice through the middle. In 3D a second group (TID 1411) of the same tracking UID has the box itself: the volume
surface between two planar polygons, its lower and upper face along the first array axis, in mm. The score is the
"Certainty of Finding" in percent.

The viewer OHIF draws the first region of the groups of one object, and edits a region that a measurement is inferred
from: hence the order, and the region once more below the score.
"""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from boxel.export.dicom_source import (
    SCHEME,
    Source,
    around,
    keep_patient_name,
    made_by,
    need_highdicom,
    object_uid,
    planes_of,
    rectangle,
    same_uid,
    save,
    source_of,
)
from boxel.export.entries import Entry, case_files, collect, holds
from boxel.export.prediction import DatasetInfo, Prediction
from boxel.export.registry import register_export
from boxel.export.world import box_around
from boxel.output_folder import case_file

SUFFIX = "_sr.dcm"
CERTAINTY = ("111012", "DCM", "Certainty of Finding")


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/CASE_sr.dcm` for each case.

    Raises:
        ValueError: see `source_of`; the extra `dicom` is not installed.
    """
    return [_write_case(case_file(out, prediction.case, SUFFIX), prediction) for prediction in predictions]


def _write_case(path: Path, prediction: Prediction) -> Path:
    source = source_of(prediction)
    import highdicom as hd
    from pydicom.sr.codedict import codes

    headers, series = source.headers, source.series
    entries = list(prediction.ranking)
    groups = [
        group
        for number, (_, box, score, name) in enumerate(entries, start=1)
        for group in _groups(number, prediction, box, score, name, source)
    ]
    observer = hd.sr.DeviceObserverIdentifyingAttributes(uid=same_uid("device"), name="Boxel", model_name="Boxel")
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(
            observer_device_context=hd.sr.ObserverContext(codes.DCM.Device, observer)
        ),
        procedure_reported=hd.sr.CodedConcept("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=groups or [_no_detections(headers[0])],
        title=codes.DCM.ImagingMeasurementReport,
        # highdicom describes them by attributes that multi-frame files and radiographs need not have
        referenced_images=None if source.is_multi_frame or source.planes[0].position is None else headers,
    )
    for note in prediction.notes:
        report[0].ContentSequence.append(_comment(note))
    content = [[(box.tolist(), score, name) for _, box, score, name in entries], *prediction.notes]
    with keep_patient_name():
        document = hd.sr.Comprehensive3DSR(
            evidence=headers,
            content=report,
            series_instance_uid=same_uid("sr series", series),
            series_number=900,
            sop_instance_uid=same_uid("sr", series, content),
            instance_number=1,
            is_complete=True,
            manufacturer=made_by()["manufacturer"],
            series_description="Boxel detections",
        )
    save(document, path)
    return path


def _groups(number: int, prediction: Prediction, box: np.ndarray, score: float, name: str, source: Source) -> list[Any]:
    """The measurement groups of one detection."""
    import highdicom as hd

    label, shape = prediction.classes.index(name), prediction.geometry.shape
    shared: dict[str, Any] = {
        "tracking_identifier": hd.sr.TrackingIdentifier(
            uid=object_uid(source, box, score, name), identifier=f"{name} {number}"
        ),
        "finding_type": hd.sr.CodedConcept(f"CLASS{label}", SCHEME, name[:64]),
        "algorithm_id": hd.sr.AlgorithmIdentification(name="Boxel", version=made_by()["software_versions"]),
    }
    groups: list[Any] = []
    planes = planes_of(box, shape) if len(shape) == 3 else range(1)
    if planes:  # not if a box in 3D lies outside the image
        region = _region(box, shape, source, planes[len(planes) // 2])
        certainty, copy = _certainty(score), deepcopy(region)
        planar = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations
        groups.append(planar(referenced_region=region, measurements=[certainty], **shared))
        copy.RelationshipType = "INFERRED FROM"
        certainty[0].ContentSequence = [copy]  # TID 1419 is extensible, but highdicom refuses to make the group with it
    if len(shape) == 3:
        surface = _surface(box, prediction, source)
        volumetric = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations
        groups.append(volumetric(referenced_volume_surface=surface, measurements=[_certainty(score)], **shared))
    return groups


def _certainty(score: float) -> Any:
    import highdicom as hd

    return hd.sr.Measurement(
        name=hd.sr.CodedConcept(*CERTAINTY),
        value=round(100 * score, 4),
        unit=hd.sr.CodedConcept("%", "UCUM", "percent"),
    )


def _surface(box: np.ndarray, prediction: Prediction, source: Source) -> Any:
    import highdicom as hd

    corners = around(box[:, 1:])
    faces = [prediction.geometry.to_world(np.insert(corners, 0, plane, axis=1)) for plane in box[:, 0]]
    return hd.sr.VolumeSurface(
        graphic_type=hd.sr.GraphicTypeValues3D.POLYGON,
        graphic_data=faces,
        frame_of_reference_uid=source.headers[0].FrameOfReferenceUID,
        source_series=hd.sr.SourceSeriesForSegmentation(source.series),
    )


def _region(box: np.ndarray, shape: tuple[int, ...], source: Source, plane: int) -> Any:
    import highdicom as hd

    header, frame = source.at(plane)
    return hd.sr.ImageRegion(
        graphic_type=hd.sr.GraphicTypeValues.POLYLINE,
        graphic_data=rectangle(box, shape),
        source_image=hd.sr.SourceImageForRegion(header.SOPClassUID, header.SOPInstanceUID, [frame] if frame else None),
    )


def _comment(text: str) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    contains = hd.sr.RelationshipTypeValues.CONTAINS
    return hd.sr.TextContentItem(name=codes.DCM.Comment, value=text, relationship_type=contains)


def _no_detections(header: Any) -> Any:
    """The measurement that there are no detections: a report must contain one."""
    import highdicom as hd

    number = hd.sr.Measurement(
        name=hd.sr.CodedConcept("DETECTIONS", SCHEME, "Number of detections"),
        value=0,
        unit=hd.sr.CodedConcept("1", "UCUM", "no units"),
    )
    tracking = hd.sr.TrackingIdentifier(uid=same_uid("none", header.SeriesInstanceUID), identifier="no detections")
    return hd.sr.MeasurementsAndQualitativeEvaluations(tracking_identifier=tracking, measurements=[number])


def read(path: Path, info: DatasetInfo) -> list[Prediction]:
    """Detections of each case from its `_sr.dcm`, or from a folder of such files.

    Raises:
        ValueError: no report of ours, or a case of unknown geometry.
    """
    need_highdicom()
    import highdicom as hd

    cases = {}
    for case, file in case_files(path, SUFFIX).items():
        geometry = info.geometry(case, file)
        report: Any = hd.sr.srread(file).content
        entries = []
        flat = len(geometry.shape) == 2
        groups = report.get_planar_roi_measurement_groups() if flat else report.get_volumetric_roi_measurement_groups()
        for group in groups:
            certainty = group.get_measurements(name=hd.sr.CodedConcept(*CERTAINTY))
            if flat:
                pixels = np.asarray(group.roi.value, np.float64)[:, ::-1]
                box = np.stack([pixels.min(axis=0), pixels.max(axis=0)])
            else:
                box = box_around(np.concatenate(group.roi.graphic_data), geometry)
            score = float(certainty[0].value) / 100
            entries.append(Entry(box, score, group.finding_type.meaning, str(file)))
        cases[case] = entries, geometry, file
    return collect(cases, info.classes)


def detect(path: Path) -> bool:
    """Whether there are reports."""
    return holds(path, f"*{SUFFIX}")


# Of 2D images only DICOM files can be reported, and those of the public check are NIfTI.
register_export("dicom-sr", write, read, detect, ndims=(3,), for_viewers=True)

"""DICOM structured report, TID 1500: `CASE_sr.dcm`, a measurement group per detection.

DICOM has no box. In 3D the geometry (TID 1411) is the volume surface between two planar polygons, the box's lower and
upper face along the first array axis, in mm; in 2D (TID 1410) it is a rectangle in pixels of the image. The score is
the "Certainty of Finding" in percent.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boxel.export.dicom_source import (
    SCHEME,
    Source,
    keep_patient_name,
    made_by,
    need_highdicom,
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
        _group(number, prediction, box, score, name, source)
        for number, (_, box, score, name) in enumerate(entries, start=1)
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


def _group(number: int, prediction: Prediction, box: np.ndarray, score: float, name: str, source: Source) -> Any:
    import highdicom as hd

    label = prediction.classes.index(name)
    certainty = hd.sr.Measurement(
        name=hd.sr.CodedConcept(*CERTAINTY),
        value=round(100 * score, 4),
        unit=hd.sr.CodedConcept("%", "UCUM", "percent"),
    )
    tracking = hd.sr.TrackingIdentifier(
        uid=same_uid("object", source.series, box.tolist(), score, name), identifier=f"{name} {number}"
    )
    flat = box.shape[-1] == 2
    kind = (
        hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations
        if flat
        else hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    )
    region = {"referenced_region": _rectangle(box, prediction, source)} if flat else {
        "referenced_volume_surface": _surface(box, prediction, source)
    }  # fmt: skip
    return kind(
        tracking_identifier=tracking,
        **region,
        finding_type=hd.sr.CodedConcept(f"CLASS{label}", SCHEME, name[:64]),
        algorithm_id=hd.sr.AlgorithmIdentification(name="Boxel", version=made_by()["software_versions"]),
        measurements=[certainty],
    )


def _around(box: np.ndarray) -> np.ndarray:
    """The corners of a rectangle `(2, 2)` in order, the first also last."""
    (top, left), (bottom, right) = box
    return np.array([(top, left), (top, right), (bottom, right), (bottom, left), (top, left)])


def _surface(box: np.ndarray, prediction: Prediction, source: Source) -> Any:
    import highdicom as hd

    around = _around(box[:, 1:])
    faces = [prediction.geometry.to_world(np.insert(around, 0, plane, axis=1)) for plane in box[:, 0]]
    return hd.sr.VolumeSurface(
        graphic_type=hd.sr.GraphicTypeValues3D.POLYGON,
        graphic_data=faces,
        frame_of_reference_uid=source.headers[0].FrameOfReferenceUID,
        source_series=hd.sr.SourceSeriesForSegmentation(source.series),
    )


def _rectangle(box: np.ndarray, prediction: Prediction, source: Source) -> Any:
    """A closed polyline; columns and rows count from the corner of the first pixel, as ours do."""
    import highdicom as hd

    header = source.headers[0]
    inside = np.clip(box, 0, prediction.geometry.shape)
    return hd.sr.ImageRegion(
        graphic_type=hd.sr.GraphicTypeValues.POLYLINE,
        graphic_data=_around(inside)[:, ::-1],
        source_image=hd.sr.SourceImageForRegion(header.SOPClassUID, header.SOPInstanceUID),
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

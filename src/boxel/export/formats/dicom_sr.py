"""DICOM structured report, TID 1500: `CASE_sr.dcm`, a volumetric measurement group (TID 1411) per detection.

DICOM has no box: the geometry is the volume surface between two planar polygons, the box's lower and upper face
along the first array axis, in mm. The score is the "Certainty of Finding" in percent.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boxel.export.dicom_source import SCHEME, keep_patient_name, made_by, need_highdicom, same_uid, save, source_series
from boxel.export.entries import case_file, case_files, collect, holds
from boxel.export.prediction import DatasetInfo, Prediction
from boxel.export.registry import register_export
from boxel.export.world import box_around

SUFFIX = "_sr.dcm"
CERTAINTY = ("111012", "DCM", "Certainty of Finding")


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/CASE_sr.dcm` for each case.

    Raises:
        ValueError: see `source_series`; the extra `dicom` is not installed.
    """
    return [_write_case(case_file(out, prediction.case, SUFFIX), prediction) for prediction in predictions]


def _write_case(path: Path, prediction: Prediction) -> Path:
    headers = source_series(prediction)
    import highdicom as hd
    from pydicom.sr.codedict import codes

    series = headers[0].SeriesInstanceUID
    entries = list(prediction.ranking)
    groups = [
        _group(number, prediction, box, score, name, headers[0])
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
        referenced_images=headers,
    )
    content = [(box.tolist(), score, name) for _, box, score, name in entries]
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


def _group(number: int, prediction: Prediction, box: np.ndarray, score: float, name: str, header: Any) -> Any:
    import highdicom as hd

    geometry, label = prediction.geometry, prediction.classes.index(name)
    (top, left), (bottom, right) = box[:, 1:]
    around = [(top, left), (top, right), (bottom, right), (bottom, left), (top, left)]
    faces = [geometry.to_world(np.array([(plane, *point) for point in around])) for plane in box[:, 0]]
    surface = hd.sr.VolumeSurface(
        graphic_type=hd.sr.GraphicTypeValues3D.POLYGON,
        graphic_data=faces,
        frame_of_reference_uid=header.FrameOfReferenceUID,
        source_series=hd.sr.SourceSeriesForSegmentation(header.SeriesInstanceUID),
    )
    certainty = hd.sr.Measurement(
        name=hd.sr.CodedConcept(*CERTAINTY),
        value=round(100 * score, 4),
        unit=hd.sr.CodedConcept("%", "UCUM", "percent"),
    )
    tracking = hd.sr.TrackingIdentifier(
        uid=same_uid("object", header.SeriesInstanceUID, box.tolist(), score, name), identifier=f"{name} {number}"
    )
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking,
        referenced_volume_surface=surface,
        finding_type=hd.sr.CodedConcept(f"CLASS{label}", SCHEME, name[:64]),
        algorithm_id=hd.sr.AlgorithmIdentification(name="Boxel", version=made_by()["software_versions"]),
        measurements=[certainty],
    )


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
        for group in report.get_volumetric_roi_measurement_groups():
            certainty = group.get_measurements(name=hd.sr.CodedConcept(*CERTAINTY))
            points = np.concatenate(group.roi.graphic_data)
            entries.append((box_around(points, geometry), float(certainty[0].value) / 100, group.finding_type.meaning))
        cases[case] = entries, geometry
    return collect(path, cases, info.classes)


def detect(path: Path) -> bool:
    """Whether there are reports."""
    return holds(path, f"*{SUFFIX}")


register_export("dicom-sr", write, read, detect, ndims=(3,))

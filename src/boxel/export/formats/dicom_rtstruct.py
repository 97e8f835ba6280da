"""DICOM structure set: `CASE_rtstruct.dcm`, a region of interest per detection, with outlines on every plane.

The outlines follow the borders of whole voxels; a hole is an outline inside another. The name of a region is its class,
its description holds the score; the exact box is in the structured report.
"""

import datetime
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boxel.export.dicom_source import Source, made_by, need_highdicom, same_uid, save, source_of, warn_of_none
from boxel.export.entries import Entry, case_files, collect, holds
from boxel.export.painting import voxels_of
from boxel.export.prediction import DatasetInfo, Prediction
from boxel.export.registry import register_export
from boxel.export.world import box_around
from boxel.output_folder import case_file
from boxel.types import Geometry

SUFFIX = "_rtstruct.dcm"
PATIENT = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime",
           "StudyID", "AccessionNumber", "ReferringPhysicianName")  # fmt: skip


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/CASE_rtstruct.dcm` for each case; none for a case without detections.

    Raises:
        ValueError: see `source_of`; a 2D image, which has no position; the extra `dicom` is not installed.
    """
    return [path for prediction in predictions for path in _write_case(out, prediction)]


def _write_case(out: Path, prediction: Prediction) -> list[Path]:
    path, case = case_file(out, prediction.case, SUFFIX), prediction.case
    if len(prediction.geometry.shape) == 2:
        raise ValueError(
            f"case {case!r}: structure sets are in mm, but a 2D image has no position; write dicom-seg or dicom-sr"
        )
    source = source_of(prediction)
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

    regions = list(_regions(prediction, source))
    if not regions:
        warn_of_none(case, "RTSTRUCT")
        return []
    first, now = source.headers[0], datetime.datetime.now()
    data = Dataset()
    for name in PATIENT:
        setattr(data, name, first.get(name, ""))
    data.SOPClassUID = RTStructureSetStorage
    content = [(region.ROIName, region.ROIDescription, str(contours)) for region, contours, _ in regions]
    data.SOPInstanceUID = same_uid("rtstruct", source.series, content)
    data.SeriesInstanceUID, data.Modality = same_uid("rtstruct series", source.series), "RTSTRUCT"
    data.SeriesNumber, data.InstanceNumber, data.SeriesDescription = 902, 1, "Boxel detections"
    data.FrameOfReferenceUID, data.PositionReferenceIndicator = first.FrameOfReferenceUID, ""
    made = made_by()
    data.Manufacturer, data.ManufacturerModelName = made["manufacturer"], made["manufacturer_model_name"]
    data.SoftwareVersions, data.DeviceSerialNumber = made["software_versions"], made["device_serial_number"]
    data.StructureSetLabel, data.ApprovalStatus, data.OperatorsName = "DETECTIONS", "UNAPPROVED", ""
    data.StructureSetDate, data.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    data.ReferencedFrameOfReferenceSequence = [_frame_of_reference(source)]
    data.StructureSetROISequence = [region for region, _, _ in regions]
    data.ROIContourSequence = [contours for _, contours, _ in regions]
    data.RTROIObservationsSequence = [observation for _, _, observation in regions]
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    save(data, path)
    return [path]


def _regions(prediction: Prediction, source: Source) -> "Iterator[tuple[Any, Any, Any]]":
    """The region, the outlines and the observation of each detection that covers a voxel."""
    from pydicom import Dataset

    geometry = prediction.geometry
    for number, (row, _, score, name) in enumerate(prediction.ranking, start=1):
        region, mask = voxels_of(prediction.detections, row, geometry.shape)
        if not mask.any():
            continue
        structure, contours, observation = Dataset(), Dataset(), Dataset()
        structure.ROINumber, structure.ROIName = number, name[:64]
        structure.ROIDescription = f"score {score:.6f}"
        structure.ReferencedFrameOfReferenceUID = source.headers[0].FrameOfReferenceUID
        structure.ROIGenerationAlgorithm = "AUTOMATIC"
        contours.ReferencedROINumber, contours.ContourSequence = number, []
        for plane, pixels in enumerate(mask, start=region[0].start):
            for outline in outlines(pixels):
                corners = np.add(outline, (region[1].start, region[2].start))
                points = geometry.to_world(np.insert(corners.astype(float), 0, plane + 0.5, axis=1))
                contour = Dataset()
                contour.ContourImageSequence = [_reference(source, plane)]
                contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
                contour.ContourData = [f"{value:.10g}"[:16] for value in points.ravel()]
                contours.ContourSequence.append(contour)
        observation.ObservationNumber = observation.ReferencedROINumber = number
        observation.ROIObservationLabel = f"{name[:10]} {number}"[:16]
        observation.RTROIInterpretedType, observation.ROIInterpreter = "", ""
        yield structure, contours, observation


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """The closed outlines of a mask `(rows, columns)` along the edges of its pixels, `(n, 2)` corners each."""
    padded = np.pad(mask, 1)
    ahead: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    # Around each pixel clockwise: the neighbour outside, and where the edge towards it starts and ends.
    for (dr, dc), start, end in (
        ((-1, 0), (0, 0), (0, 1)),
        ((0, 1), (0, 1), (1, 1)),
        ((1, 0), (1, 1), (1, 0)),
        ((0, -1), (1, 0), (0, 0)),
    ):
        outside = ~np.roll(padded, (-dr, -dc), (0, 1))[1:-1, 1:-1]
        for r, c in np.argwhere(mask & outside).tolist():
            ahead[r + start[0], c + start[1]].append((r + end[0], c + end[1]))
    loops = []
    while ahead:
        loop = [next(iter(ahead))]
        while loop[-1] in ahead:
            ends = ahead[loop[-1]]
            loop.append(ends.pop())
            if not ends:
                del ahead[loop[-2]]
        points = np.array(loop[:-1])
        turns = np.any(points - np.roll(points, 1, 0) != np.roll(points, -1, 0) - points, axis=1)
        loops.append(points[turns])
    return loops


def _reference(source: Source, plane: int) -> Any:
    from pydicom import Dataset

    item, (header, frame) = Dataset(), source.at(plane)
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    if frame:
        item.ReferencedFrameNumber = frame
    return item


def _frame_of_reference(source: Source) -> Any:
    from pydicom import Dataset

    frame, study, series = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = source.series
    series.ContourImageSequence = [_reference(source, plane) for plane in range(len(source.planes))]
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"  # detached study management, retired but required
    study.ReferencedSOPInstanceUID = source.headers[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = source.headers[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def read(path: Path, info: DatasetInfo) -> list[Prediction]:
    """Detections of each case, with the boxes of their outlines, from its `_rtstruct.dcm`, or a folder of such files.

    Raises:
        ValueError: not a structure set of detections, or a case of unknown geometry.
    """
    need_highdicom()
    import pydicom

    cases: dict[str, tuple[list[Entry], Geometry, Path]] = {}
    for case, file in case_files(path, SUFFIX).items():
        geometry, data = info.geometry(case, file), pydicom.dcmread(file)
        entries: list[Entry] = []
        try:
            drawn = {int(item.ReferencedROINumber): item.ContourSequence for item in data.ROIContourSequence}
            for region in data.StructureSetROISequence:
                contours = [contour.ContourData for contour in drawn[int(region.ROINumber)]]
                box = box_around(np.concatenate(contours).astype(float).reshape(-1, 3), geometry)
                box[:, 0] = np.rint(box[:, 0] + [-0.5, 0.5])  # outlines lie in the middle of their planes
                score = float(region.ROIDescription.split()[-1])
                entries.append(Entry(np.rint(box), score, str(region.ROIName), str(file)))
        except (AttributeError, IndexError, KeyError, ValueError) as error:
            raise ValueError(f"{file}: not regions of detections ({error}); see docs/how_to/export.md") from None
        cases[case] = entries, geometry, file
    return collect(cases, info.classes)


def detect(path: Path) -> bool:
    """Whether there are structure sets."""
    return holds(path, f"*{SUFFIX}")


register_export("dicom-rtstruct", write, read, detect, ndims=(3,), tolerance=0.5, for_viewers=True)

"""DICOM segmentation: `CASE_seg.dcm`, a binary segment per detection; `CASE_seg_2.dcm` and so on where they overlap.

A segment has whole voxels. Its description holds the score; the exact box is in the structured report.
"""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from boxel.export.dicom_source import SCHEME, made_by, need_highdicom, patient_as_it_is, same_uid, save, source_series
from boxel.export.formats import Prediction, Predictions, case_file, collect
from boxel.export.regions import paint
from boxel.export.world import geometry_of
from boxel.types import Geometry

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIX = "_seg.dcm"


def write_seg(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/CASE_seg.dcm`, and further ones where detections overlap; none for a case without detections.

    Raises:
        ValueError: see `source_series`; the extra `dicom` is not installed.
    """
    return [path for prediction in predictions for path in _write_case(out, prediction)]


def _write_case(out: Path, prediction: Prediction) -> list[Path]:
    headers = source_series(prediction)
    import highdicom as hd
    from pydicom.sr.codedict import codes

    if not len(prediction.detections):
        warnings.warn(f"case {prediction.case!r}: no DICOM SEG, which needs a detection at least", stacklevel=2)
        return []
    algorithm = hd.AlgorithmIdentificationSequence(
        name="Boxel", family=codes.DCM.ArtificialIntelligence, version=made_by()["software_versions"]
    )
    series, entries = headers[0].SeriesInstanceUID, list(prediction.ranking)
    maps, _ = paint(prediction)
    paths = []
    for instance, label_map in enumerate(maps, start=1):
        numbers = np.unique(label_map[label_map > 0]).tolist()  # a detection outside the image has no voxel
        segment_of, segments = np.zeros(len(entries) + 1, np.uint16), []
        for position, number in enumerate(numbers, start=1):
            _, box, score, name = entries[number - 1]
            segment_of[number] = position
            segment = hd.seg.SegmentDescription(
                segment_number=position,
                segment_label=f"{name} {number}"[:64],
                segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
                segmented_property_type=hd.sr.CodedConcept(f"CLASS{prediction.classes.index(name)}", SCHEME, name[:64]),
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
                tracking_uid=same_uid("object", series, box.tolist(), score, name),
                tracking_id=f"{name} {number}",
            )
            segment.SegmentDescription = f"score {score:.6f}"
            segments.append(segment)
        if not segments:
            continue
        pixels = segment_of[label_map]
        content = [hashlib.sha256(pixels).hexdigest(), *(entry[2:] for entry in entries)]
        with patient_as_it_is():
            document = hd.seg.Segmentation(
                source_images=headers,
                pixel_array=pixels,
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=segments,
                series_instance_uid=same_uid("seg series", series),
                series_number=901,
                sop_instance_uid=same_uid("seg", series, instance, content),
                instance_number=instance,
                series_description="Boxel detections",
                content_label="DETECTIONS",
                **made_by(),
            )
        paths.append(case_file(out, prediction.case, SUFFIX if instance == 1 else f"_seg_{instance}.dcm"))
        save(document, paths[-1])
    return paths


def read_seg(path: Path, classes: Sequence[str] = (), geometries: Mapping[str, Geometry] | None = None) -> Predictions:
    """Detections of each case, with tight boxes, from its `_seg.dcm` files, or from a folder of such files.

    Raises:
        ValueError: no segmentations, or a case whose geometry is not in `geometries`.
    """
    need_highdicom()
    import pydicom

    path, grids = Path(path), dict(geometries or {})
    found: dict[str, list[tuple[np.ndarray, float, str]]] = {}
    for file in sorted(path.glob("*_seg*.dcm")) if path.is_dir() else [path]:
        case = file.name.rpartition("_seg")[0]
        geometry, document = geometry_of(case, file, grids), pydicom.dcmread(file)
        frames = np.atleast_3d(document.pixel_array).reshape(-1, document.Rows, document.Columns)
        parts: dict[int, list[np.ndarray]] = {}
        for frame, group in zip(frames, document.PerFrameFunctionalGroupsSequence, strict=True):
            corner = np.array([_of(document, group, "PlanePositionSequence").ImagePositionPatient], float)
            plane = np.floor(geometry.to_voxel(corner)[0, 0])
            voxels = np.argwhere(frame)
            number = int(_of(document, group, "SegmentIdentificationSequence").ReferencedSegmentNumber)
            parts.setdefault(number, []).append(np.insert(voxels, 0, plane, axis=1))
        entries = found.setdefault(case, [])
        for segment in document.SegmentSequence:
            voxels = np.concatenate(parts[int(segment.SegmentNumber)])
            box = np.stack([voxels.min(axis=0), voxels.max(axis=0) + 1]).astype(np.float64)
            score = float(segment.SegmentDescription.split()[-1])
            entries.append((box, score, segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning))
    if not found:
        raise ValueError(f"{path}: no *{SUFFIX} files there")
    return collect(path, found, classes, grids)


def _of(document: "Dataset", group: "Dataset", name: str) -> "Dataset":
    """What the header says about a frame, there or for all frames."""
    return (group.get(name) or document.SharedFunctionalGroupsSequence[0][name].value)[0]

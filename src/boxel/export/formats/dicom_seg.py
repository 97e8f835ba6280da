"""DICOM segmentation: `CASE_seg.dcm`, a binary segment per detection; `CASE_seg_2.dcm` and so on where they overlap.

The image is a series, one multi-frame file or a 2D image. A segment has whole voxels. Its description holds the score;
the exact box is in the structured report.
"""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from boxel.export.dicom_source import SCHEME, keep_patient_name, made_by, need_highdicom, same_uid, save, source_of
from boxel.export.entries import Entry, collect, holds
from boxel.export.painting import paint
from boxel.export.prediction import DatasetInfo, Prediction
from boxel.export.registry import register_export
from boxel.export.world import box_around
from boxel.output_folder import case_file
from boxel.types import Geometry

SUFFIX, PATTERN = "_seg.dcm", "*_seg*.dcm"


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/CASE_seg.dcm` and, where detections overlap, further files; none for a case without detections.

    Raises:
        ValueError: see `source_of`; several multi-frame files; the extra `dicom` is not installed.
    """
    return [path for prediction in predictions for path in _write_case(out, prediction)]


def _write_case(out: Path, prediction: Prediction) -> list[Path]:
    source = source_of(prediction)
    import highdicom as hd
    from pydicom.sr.codedict import codes

    if not len(prediction.detections):
        warnings.warn(
            f"case {prediction.case!r}: no DICOM SEG is written, which needs at least one detection", stacklevel=2
        )
        return []
    if source.is_multi_frame and len(source.headers) > 1:
        raise ValueError(
            f"case {prediction.case!r}: a DICOM SEG refers to one multi-frame file, and this image is in "
            f"{len(source.headers)}; join them, or write dicom-sr"
        )
    algorithm = hd.AlgorithmIdentificationSequence(
        name="Boxel", family=codes.DCM.ArtificialIntelligence, version=made_by()["software_versions"]
    )
    series, entries = source.series, list(prediction.ranking)
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
        pixels = segment_of[label_map].reshape(-1, *label_map.shape[-2:])
        content = [hashlib.sha256(pixels).hexdigest(), *(entry[2:] for entry in entries)]
        with keep_patient_name():
            document = hd.seg.Segmentation(
                source_images=source.headers,
                pixel_array=source.in_file_order(pixels),
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
        # highdicom takes the spacing from the slices that have a segment, and these may have gaps between them.
        for measures in document.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence", ()):
            measures.SpacingBetweenSlices = round(prediction.geometry.spacing[0], 6)
        paths.append(case_file(out, prediction.case, SUFFIX if instance == 1 else f"_seg_{instance}.dcm"))
        save(document, paths[-1])
    return paths


def read(path: Path, info: DatasetInfo) -> list[Prediction]:
    """Detections of each case, with tight boxes, from its `_seg.dcm` files, or from a folder of such files.

    Raises:
        ValueError: no segmentations, or a case of unknown geometry.
    """
    need_highdicom()
    import highdicom as hd

    from boxel.ops import boxes_from_label_map

    cases: dict[str, tuple[list[Entry], Geometry]] = {}
    for file in sorted(path.glob(PATTERN)) if path.is_dir() else [path]:
        case = file.name.rpartition("_seg")[0]
        geometry, document = info.geometry(case, file), hd.seg.segread(file)
        entries, _ = cases.setdefault(case, ([], geometry))
        numbers = np.array(document.segment_numbers, np.int64)
        try:
            volume = None
            if len(geometry.shape) == 2:
                uids = [uid for _, _, uid in document.get_source_image_uids()]
                label_map = document.get_pixels_by_source_instance(uids, combine_segments=True)[0]
            else:
                volume = document.get_volume(combine_segments=True)
                label_map = volume.array
            boxes = np.asarray(boxes_from_label_map(label_map, numbers)[0])  # type: ignore[arg-type]
            for number, box in zip(numbers.tolist(), boxes, strict=True):
                segment = document.get_segment_description(number)
                if volume is not None:  # an index is the centre of a voxel
                    box = np.rint(box_around(volume.map_indices_to_reference(box - 0.5), geometry))
                score = float(segment.SegmentDescription.split()[-1])
                entries.append((box, score, segment.segmented_property_type.meaning))
        except (AttributeError, IndexError, RuntimeError, ValueError) as error:
            raise ValueError(f"{file}: not the segments of detections ({error}); see docs/how_to/export.md") from None
    if not cases:
        raise ValueError(f"{path}: no *{SUFFIX} files there")
    return collect(path, cases, info.classes)


def detect(path: Path) -> bool:
    """Whether there are segmentations."""
    return holds(path, PATTERN)


# Of 2D images only DICOM files can be segmented, and those of the public check are NIfTI.
register_export("dicom-seg", write, read, detect, ndims=(3,), tolerance=0.5)

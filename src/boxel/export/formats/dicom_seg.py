"""DICOM segmentation: `CASE_seg.dcm`, a binary segment per detection; `CASE_seg_2.dcm` and so on where they overlap.

The image is a series, one multi-frame file or a 2D image. A segment has whole voxels. Its description holds the score;
the exact box is in the structured report. A segmentation, if there is one, is written instead: a segment per class.
"""

import hashlib
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
    object_uid,
    same_uid,
    save,
    source_of,
    warn_of_none,
)
from boxel.export.entries import Entry, collect, holds
from boxel.export.painting import paint
from boxel.export.prediction import DatasetInfo, Prediction
from boxel.export.registry import register_export
from boxel.export.world import box_around
from boxel.inputs.folders import listing
from boxel.io.display import class_colour
from boxel.output_folder import case_file
from boxel.types import Geometry

SUFFIX, PATTERN = "_seg.dcm", "*_seg*.dcm"


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/CASE_seg.dcm` and, where detections overlap, further files; none for a case without detections.

    Of a case with a segmentation, the classes that occur in it are written instead of the detections.

    Raises:
        ValueError: see `source_of` and `Prediction.read_label_map`; several multi-frame files, or one without
            functional groups; the extra `dicom` is not installed.
    """
    return [path for prediction in predictions for path in _write_case(out, prediction)]


def _write_case(out: Path, prediction: Prediction) -> list[Path]:
    source = source_of(prediction)
    import highdicom as hd

    labels = prediction.read_label_map()
    if not (len(prediction.detections) if labels is None else labels.any()):
        warn_of_none(prediction.case, "SEG", "detection" if labels is None else "segmented voxel")
        return []
    if source.is_multi_frame and len(source.headers) > 1:
        raise ValueError(
            f"case {prediction.case!r}: a DICOM SEG refers to one multi-frame file, and this image is in "
            f"{len(source.headers)}; join them, or write dicom-sr"
        )
    if source.is_multi_frame and "PerFrameFunctionalGroupsSequence" not in source.headers[0]:
        raise ValueError(
            f"case {prediction.case!r}: a DICOM SEG refers to the functional groups of a multi-frame file, and this "
            "one has none (as in nuclear medicine); write dicom-rtstruct or dicom-sr"
        )
    series = source.series
    named: Sequence[Any]
    if labels is None:
        kind, series_uid, series_number = "detections", same_uid("seg series", series), 901
        every, named = _describe_detections(prediction, source), [entry[2:] for entry in prediction.ranking]
        maps, _ = paint(prediction)
    else:
        kind, series_uid, series_number = "segmentation", same_uid("segmentation series", series), 903
        named, maps = prediction.label_names, [labels]
        every = [_describe(name, name, value) for value, name in enumerate(named)]
    paths = []
    for instance, label_map in enumerate(maps, start=1):
        numbers = np.unique(label_map[label_map > 0]).tolist()  # a detection outside the image has no voxel
        segment_of, segments = np.zeros(len(every) + 1, np.uint16), []
        for position, number in enumerate(numbers, start=1):
            segment_of[number] = every[number - 1].SegmentNumber = position
            segments.append(every[number - 1])
        if not segments:
            continue
        pixels = segment_of[label_map].reshape(-1, *label_map.shape[-2:])
        content = [hashlib.sha256(pixels).hexdigest(), *named]
        with keep_patient_name():
            document = hd.seg.Segmentation(
                source_images=source.headers,
                pixel_array=source.in_file_order(pixels),
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=segments,
                series_instance_uid=series_uid,
                series_number=series_number,
                sop_instance_uid=same_uid("seg", series, instance, content),
                instance_number=instance,
                series_description=f"Boxel {kind}",
                content_label=kind.upper(),
                **made_by(),
            )
        document.ContentCreatorName = ""
        # highdicom takes the spacing from the slices that have a segment, and these may have gaps between them.
        for measures in document.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence", ()):
            measures.SpacingBetweenSlices = round(prediction.geometry.spacing[0], 6)
        if source.planes[0].position is None:  # what is right and what is left stands there instead
            document.PatientOrientation = source.headers[0].get("PatientOrientation", "")
        paths.append(case_file(out, prediction.case, SUFFIX if instance == 1 else f"_seg_{instance}.dcm"))
        save(document, paths[-1])
    return paths


def _describe_detections(prediction: Prediction, source: Source) -> list[Any]:
    """The segments of the detections, by falling score."""
    segments = []
    for number, (_, box, score, name) in enumerate(prediction.ranking, start=1):
        label = f"{name} {number}"
        uid = object_uid(source, box, score, name)
        segments.append(_describe(label, name, prediction.classes.index(name), tracking_uid=uid, tracking_id=label))
        segments[-1].SegmentDescription = f"score {score:.6f}"
    return segments


def _describe(label: str, name: str, position: int, **tracking: Any) -> Any:
    """A segment of the class at a position, to be numbered."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    # What is detected is a finding; a class of a segmentation may be an organ.
    category = codes.SCT.MorphologicallyAbnormalStructure if tracking else codes.SCT.SpatialAndRelationalConcept
    return hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=label[:64],
        segmented_property_category=category,
        segmented_property_type=hd.sr.CodedConcept(f"CLASS{position}", SCHEME, name[:64]),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="Boxel", family=codes.DCM.ArtificialIntelligence, version=made_by()["software_versions"]
        ),
        display_color=hd.color.CIELabColor.from_string(class_colour(position)),
        **tracking,
    )


def read(path: Path, info: DatasetInfo) -> list[Prediction]:
    """Detections of each case, with tight boxes, from its `_seg.dcm` files, or from a folder of such files.

    Raises:
        ValueError: no segmentations, segments without a score, or a case of unknown geometry.
    """
    need_highdicom()
    import highdicom as hd

    from boxel.ops import boxes_from_label_map

    cases: dict[str, tuple[list[Entry], Geometry, Path]] = {}
    for file in listing(path, PATTERN) if path.is_dir() else [path]:
        case = file.name.rpartition("_seg")[0]
        geometry, document = info.geometry(case, file), hd.seg.segread(file)
        if not all("SegmentDescription" in segment for segment in document.SegmentSequence):
            raise ValueError(
                f"{file}: segments without a score, such as the classes of a segmentation, are no detections; give the "
                "files that boxel predict wrote"
            )
        entries, *_ = cases.setdefault(case, ([], geometry, file))
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
                entries.append(Entry(box, score, segment.segmented_property_type.meaning, str(file)))
        except (AttributeError, IndexError, RuntimeError, ValueError) as error:
            raise ValueError(f"{file}: not the segments of detections ({error}); see docs/how_to/export.md") from None
    if not cases:
        raise ValueError(f"{path}: no *{SUFFIX} files there")
    return collect(cases, info.classes)


def detect(path: Path) -> bool:
    """Whether there are segmentations."""
    return holds(path, PATTERN)


# Of 2D images only DICOM files can be segmented, and those of the public check are NIfTI.
register_export("dicom-seg", write, read, detect, ndims=(3,), tolerance=0.5, for_viewers=True)

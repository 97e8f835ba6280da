"""LIDC-IDRI as published: DICOM series of CT, and one XML of four radiologists' outlines per series.

    LIDC-IDRI-0001/.../000001.dcm ...   any folders
    LIDC-IDRI-0001/.../069.xml          <LidcReadMessage>, anywhere below; names its series (SeriesInstanceUid)

For series without XML the readings may be DICOM: a SEG per reading, and structured reports with the ratings.

Nodules of at least 3 mm have outlines and ratings; smaller ones and non-nodules are points and are left out.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from boxel.datasets.annotations import Annotator
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.dicom_choice import without_copies
from boxel.datasets.formats.dicom_files import SeriesOpener, find_dicom, has_dicom
from boxel.datasets.formats.files import numbers
from boxel.datasets.formats.lidc_segments import LidcSegments
from boxel.datasets.formats.options import ReaderOptions
from boxel.datasets.formats.registry import register_format
from boxel.datasets.label_maps import Mask, overlay
from boxel.datasets.problems import InputError, Report, some
from boxel.datasets.reader_studies import Outline, Reading, fuse, group_readings, mask_of
from boxel.inputs.folders import listing, walk
from boxel.inputs.texts import read_head, read_xml
from boxel.types import Geometry, Instances

__all__ = ["Options", "detect", "read"]

MALIGNANT = 3  # mean malignancy from which a nodule is malignant: 3 to 5 in Jaeger et al., 2018


class Options(ReaderOptions):
    """How the readings of radiologists become objects.

    Attributes:
        classes: benign and malignant (mean malignancy of 3 or more), or one class `nodule`.
        malignancy: mean over the radiologists who marked the nodule ("present"), or over all four, with 0 for those who
            did not ("all", as in the Medical Detection Toolkit). By the public rating tables the nodules that at least
            two marked are 969 benign and 900 malignant with "present", 1,319 and 550 with "all"; Jaeger et al. (2018)
            have 1,319 and 494.
        min_raters: nodules marked by fewer radiologists are left out.
        num_raters: radiologists of the study.
        min_voxels: smaller nodules are left out.
        min_diameter: nodules with less volume than a ball of this diameter (mm) are left out.
    """

    classes: Literal["malignancy", "nodule"] = "malignancy"
    malignancy: Literal["present", "all"] = "present"
    min_raters: NonNegativeInt = 1
    num_raters: PositiveInt = 4
    min_voxels: NonNegativeInt = 1
    min_diameter: NonNegativeFloat = 0.0

    def keeps(self, mask: Mask, raters: int, geometry: Geometry) -> bool:
        voxels = int(mask.voxels.sum())
        volume = voxels * float(np.prod(geometry.spacing))
        large = volume >= np.pi / 6 * self.min_diameter**3
        return raters >= self.min_raters and voxels >= self.min_voxels and large

    def fused(self, readings: Sequence[Reading], masks: Sequence[Mask], geometry: Geometry) -> list[tuple[int, Mask]]:
        """Class and mask of one nodule; empty if it is left out."""
        mask, malignancy, raters = fuse(readings, masks, self.num_raters, self.malignancy)
        if mask is None or not self.keeps(mask, raters, geometry):
            return []
        return [(int(malignancy >= MALIGNANT) if self.classes == "malignancy" else 0, mask)]


@dataclass(frozen=True)
class LidcNodules(Annotator):
    """Reads the nodules of one XML file, fused over the radiologists."""

    path: Path
    options: Options

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self, geometry: Geometry) -> tuple[np.ndarray, Instances]:
        seen = [(reading, mask_of(reading, geometry)) for reading in readings_in(self.path, read_xml(self.path))]
        readings = [reading for reading, mask in seen if mask is not None]
        masks = [mask for _, mask in seen if mask is not None]
        nodules = []
        for group in group_readings(masks):
            nodules += self.options.fused([readings[i] for i in group], [masks[i] for i in group], geometry)
        return overlay(nodules, geometry.shape)


def readings_in(path: Path, tree: Element) -> list[Reading]:
    """The readings of all radiologists of nodules of at least 3 mm."""
    readings = []
    for rater, session in enumerate(tree.iter("readingSession")):
        for nodule in session.iter("unblindedReadNodule"):
            rated = nodule.findtext("characteristics/malignancy")
            outlines = tuple(_outline(path, roi) for roi in nodule.iter("roi"))
            if rated is not None and any(len(outline.pixels) > 2 for outline in outlines):
                readings.append(Reading(rater, outlines, numbers([rated], path, "malignancy")[0]))
    return readings


def _outline(path: Path, roi: Element) -> Outline:
    (z,) = numbers([roi.findtext("imageZposition")], path, "imageZposition")
    edges = [(edge.findtext("xCoord"), edge.findtext("yCoord")) for edge in roi.iter("edgeMap")]
    pixels = tuple((x, y) for x, y in (numbers(edge, path, "edgeMap", 2) for edge in edges))
    if not pixels:
        raise InputError(path, f"an outline at {z:g} mm has no points", "copy the file again")
    return Outline(z, pixels, (roi.findtext("inclusion") or "TRUE").strip().upper() == "TRUE")


def detect(path: Path) -> bool:
    if not path.is_dir():
        return False
    named = any(re.fullmatch(r"LIDC-IDRI-\d{4}", folder.name) and folder.is_dir() for folder in listing(path))
    return (named and has_dicom(path)) or any(map(_is_message, _texts(path)))


def _texts(path: Path) -> Iterator[Path]:
    for folder, _, names in walk(path):
        yield from (folder / name for name in names if name.endswith(".xml"))


def _is_message(file: Path) -> bool:
    return b"LidcReadMessage" in read_head(file, 500)


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set below `path`; problems of single cases go to `report`."""
    images, others = find_dicom(path, report, ("SEG", "SR"))
    images, others = (without_copies(path, *kind, report) for kind in ((images, "image"), (others, "annotation")))
    of_series: dict[str, Path] = {}
    count, foreign = 0, []
    for file in _texts(path):
        if not _is_message(file):
            foreign.append(str(file.relative_to(path)))
            continue
        try:
            tree = read_xml(file)
            count += len(readings_in(file, tree))
            names = (".//SeriesInstanceUid", ".//SeriesInstanceUID")  # both spellings occur
            of_series["".join(tree.findtext(name) or "" for name in names).strip()] = file
        except InputError as wrong:
            report(wrong)
    cases, bare, seen = [], [], set()
    for series in images:
        patient = str(series.header.get("PatientID", "") or "")
        name = f"{patient}_{series.uid.rpartition('.')[2]}" if patient else series.uid
        drawn = tuple(other.files[0] for other in others if other.kind == "SEG" and series.uid in other.references)
        annotate: Annotator
        if series.uid in of_series:
            annotate = LidcNodules(of_series[series.uid], options)
            seen.add(series.uid)
        elif drawn:
            reports = tuple(other.files[0] for other in others if other.kind == "SR" and other.patient == patient)
            annotate = LidcSegments(drawn, reports, options)
            count += len(drawn)
        else:
            bare.append(name)
            continue
        opener = SeriesOpener(series.uid, upright=True)
        cases.append(Case(name, (series.folder,), group=patient, annotate=annotate, opener=opener))
    lonely = sorted(f"{file.relative_to(path)} (series {uid})" for uid, file in of_series.items() if uid not in seen)
    for left_out, what, fix in (
        (bare, "series without readings are left out", "add their XML or SEG files"),
        (lonely, "XML files without their series are left out", "add the DICOM files"),
        (foreign, "XML files are no LidcReadMessage and are left out", "copy them again if they hold readings"),
    ):
        if left_out:
            report(InputError(path, f"{len(left_out)} {what}: {some(left_out)}"[:400], fix, severity="warning"))
    patients = len({case.group for case in cases})
    problem = f"{len(cases)} scans of {patients} patients, {count} readings of nodules of 3 mm and more"
    fix = (
        "compare: Jaeger et al. (2018) used 1035 scans, 1319 benign and 494 malignant nodules, "
        "with absent readers as 0 (--option malignancy=all)"
    )
    report(InputError(path, problem, fix, severity="note"))
    classes = ("benign", "malignant") if options.classes == "malignancy" else ("nodule",)
    return Dataset(path, path.resolve().name, 3, classes, ("CT",), tuple(cases), unlabelled=tuple(bare))


register_format(
    "lidc",
    detect,
    read,
    "LIDC-IDRI: DICOM series in LIDC-IDRI-0001/ and XML files of the readers (LidcReadMessage), or SEG",
    Options,
    order=10,
)

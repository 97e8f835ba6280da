"""DICOM series with segmentations (SEG) or structure sets (RTSTRUCT), in any folders.

An annotation belongs to the series that it references, otherwise to the only one in its frame of reference. Every
connected component of a segment becomes an object. A series without annotation is left out: it may not be healthy.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from boxel.datasets.cases import Case, Dataset
from boxel.datasets.dicom_objects import DicomObjects, names_in
from boxel.datasets.formats.dicom_files import DicomSeries, SeriesOpener, find_dicom, has_dicom
from boxel.datasets.formats.options import Names, ReaderOptions
from boxel.datasets.formats.registry import register_format
from boxel.datasets.label_maps import Connectivity
from boxel.datasets.problems import InputError, Report, some

__all__ = ["Options", "detect", "read", "series_names"]


class Options(ReaderOptions):
    """Settings of the reader.

    Attributes:
        names: classes are the property types of the segments (such as Liver), or their labels; RTSTRUCT has names only.
        classes: the classes to use, in order; all if empty.
        split: every connected component is an object; otherwise every segment is one.
        connectivity: voxels are connected if they share a face, an edge or a corner.
        min_size: smaller components are left out (voxels).
        negatives: use series without annotation as images without objects.
    """

    names: str = "type"
    classes: Names = ()
    split: bool = True
    connectivity: Connectivity = "corner"
    min_size: int = 1
    negatives: bool = False


def detect(path: Path) -> bool:
    return path.is_dir() and has_dicom(path)


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set below `path`; problems of single cases go to `report`."""
    images, annotations = find_dicom(path, report)
    of_image: dict[int, list[Path]] = {index: [] for index in range(len(images))}
    lost = []
    for series in annotations:
        targets = _targets(series, images)
        if len(targets) == 1:
            of_image[targets[0]] += series.files
        else:
            lost.append(series.files[0].name)
    if lost:
        problem = f"{len(lost)} annotations without their images are left out: {some(lost)}"
        report(InputError(path, problem, "add the series that they reference", severity="warning"))
    names: set[str] = set()
    unreadable = set()
    for file in (file for files in of_image.values() for file in files):
        try:
            names |= set(names_in(file, options.names == "label"))
        except Exception as error:  # damaged files raise nearly anything
            unreadable.add(file)
            report(InputError(file, f"cannot be read ({error})"[:300], "copy or export it again", "", "error"))
    classes = options.classes or tuple(sorted(names)) or ("object",)
    lookup = {name: label for label, name in enumerate(classes)}
    cases, bare = [], []
    for index, (name, series) in enumerate(zip(series_names(images, path), images, strict=True)):
        files = tuple(file for file in of_image[index] if file not in unreadable)
        if not files and not options.negatives:
            bare.append(name)
            continue
        by_label = options.names == "label"
        annotate = DicomObjects(files, lookup, by_label, options.split, options.connectivity, options.min_size)
        group, opener = str(series.header.get("PatientID", "") or ""), SeriesOpener(series.uid)
        cases.append(Case(name, (series.folder,), group=group, annotate=annotate, opener=opener))
    if bare:
        problem = f"{len(bare)} series without annotation are left out: {some(bare)}"
        fix = "use them as images without objects with --option negatives=true"
        report(InputError(path, problem, fix, severity="warning"))
    modality = Counter(str(series.header.get("Modality", "")) for series in images).most_common(1)
    channels = (modality[0][0] if modality else "CT",)
    return Dataset(
        path, path.resolve().name, 3, classes, channels, tuple(cases), unlabelled=tuple(bare)
    )  # fmt: skip


def series_names(images: Sequence[DicomSeries], root: Path) -> list[str]:
    """Names of series that can name files: their folders below `root`, then part of the UID where a folder has several.

    The part is the last number of the UID, or the whole UID where series agree in that.
    """
    counts = Counter(series.folder for series in images)
    ends = Counter((series.folder, series.uid.rpartition(".")[2]) for series in images)
    names = []
    for series in images:
        end = series.uid.rpartition(".")[2]
        own = end if ends[series.folder, end] == 1 else series.uid
        name = "_".join(Path(os.path.relpath(series.folder, root)).parts) or root.resolve().name
        names.append(f"{name}_{own}" if counts[series.folder] > 1 else name)
    return names


def _targets(series: DicomSeries, images: list[DicomSeries]) -> list[int]:
    direct = [index for index, image in enumerate(images) if image.uid in series.references]
    frame = series.frame_of_reference
    return direct or [i for i, image in enumerate(images) if frame and image.frame_of_reference == frame]


register_format(
    "dicom", detect, read, "DICOM series with SEG or RTSTRUCT, anywhere below the folder", Options, order=140
)

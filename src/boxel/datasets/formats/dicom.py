"""Folders of DICOM series with segmentations (SEG) or structure sets (RTSTRUCT), in any order.

An annotation belongs to the series that it references, or else to the only one in its frame of reference. Every
connected component of a segment becomes an object. A series without annotation is left out: it need not be healthy.
"""

from collections import Counter
from pathlib import Path

from boxel.datasets.cases import Case, Dataset
from boxel.datasets.dicom_objects import DicomObjects, names_in
from boxel.datasets.formats.dicom_files import Found, SeriesOpener, find_dicom, has_dicom
from boxel.datasets.formats.options import Names, ReaderOptions
from boxel.datasets.formats.registry import register_format
from boxel.datasets.label_maps import Connectivity
from boxel.datasets.problems import InputError, Report, some

__all__ = ["Options", "detect", "read"]


class Options(ReaderOptions):
    """What becomes an object.

    Attributes:
        names: classes are the segments' property types (such as Liver), or their labels; RTSTRUCT has names only.
        classes: those to take, in order; all if empty.
        split: every connected component is an object; otherwise every segment.
        connectivity, min_size: of components.
        negatives: series without annotation show no object.
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
    """The data set below `path`; problems of single cases go to `report`."""
    images, annotations = find_dicom(path, report)
    of_image: dict[int, list[Path]] = {index: [] for index in range(len(images))}
    lost = []
    for found in annotations:
        targets = _targets(found, images)
        if len(targets) == 1:
            of_image[targets[0]] += found.files
        else:
            lost.append(found.files[0].name)
    if lost:
        problem = f"{len(lost)} annotations without their images, left out: {some(lost)}"
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
    counts = Counter(found.folder for found in images)
    cases, bare = [], []
    for index, found in enumerate(images):
        name = "_".join(found.folder.relative_to(path).parts) or path.resolve().name
        name += f"_{found.uid.rpartition('.')[2]}" if counts[found.folder] > 1 else ""
        files = tuple(file for file in of_image[index] if file not in unreadable)
        if not files and not options.negatives:
            bare.append(name)
            continue
        by_label = options.names == "label"
        annotate = DicomObjects(files, lookup, by_label, options.split, options.connectivity, options.min_size)
        group, opener = str(found.header.get("PatientID", "") or ""), SeriesOpener(found.uid)
        cases.append(Case(name, (found.folder,), group=group, annotate=annotate, opener=opener))
    if bare:
        problem = f"{len(bare)} series without annotation, left out: {some(bare)}"
        fix = "--option negatives=true takes them as images without objects"
        report(InputError(path, problem, fix, severity="warning"))
    modality = Counter(str(found.header.get("Modality", "")) for found in images).most_common(1)
    channels = (modality[0][0] if modality else "CT",)
    return Dataset(
        path, path.resolve().name, 3, classes, channels, tuple(cases), unlabelled=tuple(bare)
    )  # fmt: skip


def _targets(found: Found, images: list[Found]) -> list[int]:
    direct = [index for index, image in enumerate(images) if image.uid in found.references]
    frame = found.frame_of_reference
    return direct or [i for i, image in enumerate(images) if frame and image.frame_of_reference == frame]


register_format(
    "dicom", detect, read, "DICOM series with SEG or RTSTRUCT, anywhere below the folder", Options, order=140
)

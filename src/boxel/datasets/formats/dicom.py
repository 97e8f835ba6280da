"""DICOM images with segmentations (SEG), structure sets (RTSTRUCT) or structured reports (SR), in any folders.

An annotation belongs to the images that it references, otherwise to the only one in its frame of reference. Every
connected component of a segment becomes an object, every region of a report a box. A series is one image; radiographs,
mammograms and the like are one image per file. An image without annotation is left out: it may not be healthy.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import NonNegativeInt

from boxel.datasets.cases import Case, Dataset
from boxel.datasets.dicom_objects import DicomObjects, names_in
from boxel.datasets.dicom_reports import count_points, regions_in
from boxel.datasets.formats.dicom_choice import (
    check_frame,
    groups_of,
    of_one_rank,
    show_annotated,
    targets,
    without_copies,
)
from boxel.datasets.formats.dicom_files import (
    ANNOTATIONS,
    PROJECTIONS,
    VOLUMES,
    DicomSeries,
    SeriesOpener,
    find_dicom,
    has_dicom,
)
from boxel.datasets.formats.options import Names, ReaderOptions
from boxel.datasets.formats.outlines import left_out
from boxel.datasets.formats.pairs_dicom import maps_of_series, pairs_hint, volumes_below
from boxel.datasets.formats.registry import register_format
from boxel.datasets.label_maps import Connectivity
from boxel.datasets.lookup import MASKS
from boxel.datasets.names import below, words
from boxel.datasets.problems import InputError, Report, Severity, some
from boxel.io.dicom_frames import pydicom_module
from boxel.wording import counted

__all__ = ["Options", "detect", "read", "series_names"]


class Options(ReaderOptions):
    """Settings of the reader.

    Attributes:
        names: classes are the property types of segments and the findings of reports (such as Liver), or their labels;
            RTSTRUCT has names only.
        classes: the classes to use, in order; all if empty.
        split: every connected component is an object; otherwise every segment is one.
        connectivity: voxels are connected if they share a face, an edge or a corner.
        min_size: smaller components are left out (voxels).
        negatives: use images without annotation as images without objects.
        frames: the frames of multi-frame files to use, where these hold several images, such as `StackID=1`.
        modalities: use only images of these modalities, such as `DX`; all if empty.
    """

    names: str = "type"
    classes: Names = ()
    split: bool = True
    connectivity: Connectivity = "corner"
    min_size: NonNegativeInt = 1
    negatives: bool = False
    frames: Names = ()
    modalities: Names = ()


def detect(path: Path) -> bool:
    return path.is_dir() and has_dicom(path)


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set below `path`; problems of single cases go to `report`."""
    modalities = options.modalities or (*VOLUMES, *PROJECTIONS)
    images, annotations = find_dicom(path, report, ANNOTATIONS, modalities)
    images = without_copies(path, of_one_rank(path, images, report), "image", report, annotations)
    annotations = without_copies(path, annotations, "annotation", report)
    annotations = [series for series in annotations if series.kind != "SR" or _has_regions(series.files[0], report)]
    of_image: dict[int, list[Path]] = {index: [] for index in range(len(images))}
    every_name = series_names(images, path)
    lost: list[str] = []
    unclear: list[str] = []
    for series in annotations:
        own = targets(series, images)
        if len(own) == 1 or (own and images[own[0]].is_flat):  # one report may be about several views
            for index in own:
                of_image[index] += series.files
                check_frame(series, images[index], every_name[index], report)
        else:
            (unclear if own else lost).append(str(below(series.files[0], path)))
    for left, kind, fix in (
        (lost, "have no image", "add the series that they reference"),
        (unclear, "refer to several images", "keep one image series for each"),
    ):
        if left:
            problem = f"annotations that {kind} are left out: {some(left)}"
            report(InputError(path, problem, fix, severity="warning"))
    names: set[str] = set()
    unreadable = set()
    for file in dict.fromkeys(file for files in of_image.values() for file in files):
        try:
            names |= set(names_in(file, options.names == "label"))
        except Exception as error:  # damaged files raise nearly anything
            unreadable.add(file)
            report(InputError(file, f"cannot be read ({error})"[:300], "copy or export it again", "", "error"))
    classes = options.classes or tuple(sorted(names)) or ("object",)
    lookup = {name: label for label, name in enumerate(classes)}
    masks = _masks(path, images, annotations)
    if any(not of_image[index] for index in masks):
        listed = some({str(below(images[index].folder, path)) for index in masks if not of_image[index]})
        problem = f"images in folders of masks are left out: {listed}"
        fix = "masks must be DICOM SEG, or label maps in other files, such as NIfTI, for --format pairs"
        report(InputError(path, problem, fix, severity="warning"))
    shown = show_annotated(path, every_name, images, of_image, annotations, report)
    cases, used, bare = [], [], []
    for index, (name, series) in enumerate(zip(every_name, images, strict=True)):
        files = tuple(file for file in of_image[index] if file not in unreadable)
        if not files and (index in masks or index in shown):
            continue
        if not files and not options.negatives:
            bare.append(name)
            continue
        by_label = options.names == "label"
        place = series.files[0] if series.is_flat else series.folder
        annotate = DicomObjects(files, lookup, by_label, options.split, options.connectivity, options.min_size, place)
        opener = None if series.is_flat else SeriesOpener(series.uid, frames=options.frames)
        cases.append(Case(name, (place,), annotate=annotate, opener=opener))
        used.append(series)
    groups = groups_of(path, used, report)
    cases = [replace(case, group=group) for case, group in zip(cases, groups, strict=True)]
    maps = volumes_below(path) if bare or options.negatives else []
    near = maps_of_series(path, maps, {series.folder for series in images}) if options.negatives else []
    levels: tuple[Severity, ...] = ("error", "warning")
    for severity, beside in zip(levels, (near, [file for file in maps if file not in near]), strict=True):
        if beside:
            listed = some(str(below(file, path)) for file in beside)
            problem = f"{counted(len(beside), 'possible label map is', 'possible label maps are')} not read: {listed}"
            fix = f"{pairs_hint(path, beside)}, or move other files elsewhere"
            report(InputError(path, problem, fix, severity=severity))
    if bare:
        problem = f"{counted(len(bare), 'image is', 'images are')} left out without an annotation: {some(bare)}"
        fix = "annotate them" if maps else "use them as images without objects with --option negatives=true"
        report(InputError(path, problem, fix, severity="warning"))
    modality = Counter(series.kind for series in images).most_common(1)
    channels: tuple[str, ...] = (modality[0][0] if modality else "CT",)
    if images and int(images[0].header.get("SamplesPerPixel") or 1) == 3:
        channels = ("red", "green", "blue")
    ndim = 2 if images and images[0].is_flat else 3
    return Dataset(path, path.resolve().name, ndim, classes, channels, tuple(cases), unlabelled=tuple(bare))


def _masks(path: Path, images: Sequence[DicomSeries], annotations: Sequence[DicomSeries]) -> list[int]:
    """The images in folders of masks, if others are not; where DICOM annotations lie, the name means these."""

    def named_folder(series: DicomSeries) -> Path | None:
        parts = below(series.folder, path).parts
        named = next((k for k, part in enumerate(parts) if MASKS & set(words(part))), None)
        return None if named is None else Path(*parts[: named + 1])

    of_annotations = {named_folder(series) for series in annotations}
    named = [index for index, series in enumerate(images) if named_folder(series) not in {None, *of_annotations}]
    return named if len(named) < len(images) else []


def series_names(images: Sequence[DicomSeries], root: Path) -> list[str]:
    """Names of images that can name files: their folders below `root`, then what tells those of one folder apart.

    That is the stem of a 2D image, or the last number of the UID of a series, or the whole UID where series agree in
    that.
    """
    counts = Counter(series.folder for series in images)
    ends = Counter((series.folder, series.uid.rpartition(".")[2]) for series in images)
    names = []
    for series in images:
        end = series.uid.rpartition(".")[2]
        own = end if ends[series.folder, end] == 1 else series.uid
        folders = Path(os.path.relpath(series.folder, root)).parts
        if series.is_flat:
            file = series.files[0]
            own = file.name[: -len(file.suffix)] if file.suffix.lower() in (".dcm", ".dicom") else file.name
        name = "_".join(folders) or ("" if series.is_flat else root.resolve().name)
        several = counts[series.folder] > 1 or not name
        names.append("_".join(filter(None, (name, own))) if several else name)
    return names


def _has_regions(file: Path, report: Report) -> bool:
    """Whether a structured report has regions; those about doses or segments do not. Points are reported."""
    try:
        content = pydicom_module().dcmread(file)
        regions, points = list(regions_in(content)), count_points(content)
    except Exception:  # damaged: reported where its names are read
        return True
    if points:
        report(left_out(file, points, "point"))
    return bool(regions)


register_format(
    "dicom", detect, read, "DICOM images with SEG, RTSTRUCT or SR, anywhere below the folder", Options, order=140
)

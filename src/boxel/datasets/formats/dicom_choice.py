"""Which DICOM series are images of their own, which annotations are theirs, and who belongs to one group."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from boxel.datasets.formats.dicom_files import ANNOTATIONS, DicomSeries
from boxel.datasets.names import below
from boxel.datasets.problems import InputError, Report, Severity, some
from boxel.io.dicom_frames import pydicom_module
from boxel.wording import counted

__all__ = ["check_frame", "groups_of", "of_one_rank", "show_annotated", "targets", "without_copies"]


def of_one_rank(path: Path, images: list[DicomSeries], report: Report) -> list[DicomSeries]:
    """The volumes if there are any, otherwise the 2D images."""
    volumes = [series for series in images if not series.is_flat]
    flat = len(images) - len(volumes)
    if volumes and flat:
        kinds = ",".join(sorted({series.kind for series in images if series.is_flat}))
        problem = f"{counted(flat, '2D image is', '2D images are')} left out beside {counted(len(volumes), 'volume')}"
        report(InputError(path, problem, f"use them instead with --option modalities={kinds}", severity="warning"))
    return volumes or images


def without_copies(
    path: Path, series: Sequence[DicomSeries], noun: str, report: Report, near: Sequence[DicomSeries] = ()
) -> list[DicomSeries]:
    """The series without those whose files all lie in another folder too, or another time in their own.

    Files are copies if their SOPInstanceUID and their content are the same. The most complete copy stays, and of equal
    ones that which lies nearest to the annotations `near` that refer to it.
    """

    def rank(one: DicomSeries) -> tuple[int, int, int, str]:
        folders = [other.folder for other in near if one.uid in other.references]
        shared = max((len(Path(os.path.commonpath([one.folder, folder])).parts) for folder in folders), default=0)
        return -len(one.instances), -shared, len(str(one.files[0])), str(one.files[0])

    kept: list[DicomSeries] = []
    copies: dict[str, str] = {}
    owners: dict[str, list[DicomSeries]] = defaultdict(list)
    for one in sorted(series, key=rank):
        first = next(iter(one.instances), "")
        same = (other for other in owners[first] if one.instances.keys() <= other.instances.keys())
        other = next((other for other in same if _same(one, other, first)), None)
        if other:
            names = [str(below(each.files[0] if len(each.files) == 1 else each.folder, path)) for each in (one, other)]
            copies[names[0]] = names[1]
            continue
        for uid in one.instances:
            owners[uid].append(one)
        kept.append(one)
    if copies:
        what = "a copy of another" if len(copies) == 1 else "copies of others"
        listed = some(f"{copy} of {own}" for copy, own in copies.items())
        problem = f"{counted(len(copies), f'{noun} is', f'{noun}s are')} left out as {what}: {listed}"
        report(InputError(path, problem, "nothing to do if this is correct", severity="warning"))
    return [one for one in series if any(one is own for own in kept)]


def _same(one: DicomSeries, other: DicomSeries, uid: str) -> bool:
    """Whether files with the same UID have the same pixels, and, of annotations, the same content."""
    mine, theirs = (pydicom_module().dcmread(series.instances[uid]) for series in (one, other))
    if one.kind in ANNOTATIONS:
        return bool(mine == theirs)
    return bool(mine.get("PixelData") == theirs.get("PixelData"))


def show_annotated(
    path: Path, names: Sequence[str], images: Sequence[DicomSeries], own: Mapping[int, Sequence[Path]],
    annotations: Sequence[DicomSeries], report: Report,
) -> set[int]:  # fmt: skip
    """The volumes without annotation that may show objects or are localizers, which are reported.

    A volume may show objects that another reconstruction or sequence has, if there is an annotation in its frame of
    reference or its study, whether or not its image is there.

    Args:
        path: folder of the data set.
        names: of the images.
        images: all images.
        own: the annotations of each image by its index.
        annotations: all annotations.
        report: called with warnings.
    """
    known = [*annotations, *(one for index, one in enumerate(images) if own[index])]
    places = {uid for one in known for uid in one.frames_of_reference}
    studies = {(one.patient, one.study) for one in known if one.study}
    bare = [index for index, one in enumerate(images) if not own[index] and not one.is_flat]
    scouts = [index for index in bare if images[index].is_localizer]
    again = [
        index
        for index in bare
        if index not in scouts
        and (images[index].frames_of_reference & places or (images[index].patient, images[index].study) in studies)
    ]
    if scouts:
        problem = f"{counted(len(scouts), 'localizer is', 'localizers are')} left out: {some(names[k] for k in scouts)}"
        report(InputError(path, problem, "nothing to do if this is correct", severity="warning"))
    if again:
        listed = some(names[index] for index in again)
        what = counted(len(again), "volume without annotation is", "volumes without annotation are")
        problem = f"{what} left out, but may show objects annotated in the same study: {listed}"
        fix = "annotate them if they are to be used"
        report(InputError(path, problem, fix, severity="warning"))
    return {*scouts, *again}


def groups_of(path: Path, images: Sequence[DicomSeries], report: Report) -> list[str]:
    """The group of each image: its patient, or its study if all have one PatientID but there are several studies."""
    patients, studies = ({getattr(one, name) for one in images} for name in ("patient", "study"))
    if len(patients) > 1 or len(studies) < 2:
        return [one.patient for one in images]
    (patient,) = patients
    what = "all images have the same PatientID" if patient else "no image has a PatientID"
    problem = f"{what}, so the {len(studies)} studies count as patients"
    fix = "write the PatientIDs, or --option group=PATTERN, if several studies are of one patient"
    report(InputError(path, problem, fix, severity="warning"))
    return [one.study for one in images]


def targets(series: DicomSeries, images: list[DicomSeries]) -> list[int]:
    known = series.references
    direct = [index for index, image in enumerate(images) if image.header.get("SOPInstanceUID") in known]
    direct = direct if direct and images[direct[0]].is_flat else []
    direct = direct or [index for index, image in enumerate(images) if image.uid and image.uid in known]
    return direct or [i for i, image in enumerate(images) if series.frames_of_reference & image.frames_of_reference]


def check_frame(series: DicomSeries, image: DicomSeries, case: str, report: Report) -> None:
    """Report an annotation whose coordinates belong to another frame of reference than its image.

    Contours are known by their coordinates alone, which mean nothing in another frame (PS3.3, C.8.8.5), so this is an
    error. Frames of a SEG are used only where they lie on the voxels of the image, so this is a warning.
    """
    own, other = series.frames_of_reference, image.frames_of_reference
    if image.is_flat or series.kind == "SR" or not own or not other or own & other:
        return
    problem = f"its frame of reference is {some(own)}, that of its image is {some(other)}"
    fix = "export it again for this image, or correct FrameOfReferenceUID if UIDs were replaced in one of them only"
    severity: Severity = "error" if series.kind == "RTSTRUCT" else "warning"
    report(InputError(series.files[0], problem, fix, case, severity))

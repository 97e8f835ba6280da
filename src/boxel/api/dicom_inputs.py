"""The DICOM series below a folder that a run can be applied to."""

import importlib.util
import os
from collections import defaultdict
from collections.abc import Sequence, Set
from pathlib import Path

from boxel.datasets.cases import Case
from boxel.datasets.formats.dicom import series_names
from boxel.datasets.formats.dicom_files import PROJECTIONS, VOLUMES, DicomSeries, SeriesOpener, find_dicom
from boxel.datasets.problems import InputError
from boxel.io import list_series
from boxel.preparation.training_images import MODALITIES

__all__ = ["dicom_cases"]

OBJECTS = ("SEG", "RTSTRUCT", "SR", "PR", "KO", "RTDOSE", "RTPLAN", "RTRECORD", "REG", "DOC", "FID", "M3D")


class _Everything:
    def __contains__(self, kind: object) -> bool:
        return True


def dicom_cases(
    folder: Path,
    places: Set[Path],
    root: Path,
    channels: Sequence[str],
    ndim: int,
    left_out: dict[str, list[str]],
    force: bool = False,
) -> list[Case]:
    """A case for each image series below `folder` that fits, called as in a data set of DICOM series.

    Each radiograph of a series is a case.

    Args:
        folder: searched with all its folders; links are followed.
        places: the folders from which series are taken.
        root: the names say the folders below it.
        channels: the channels of the run.
        ndim: the axes of its images.
        left_out: gets the names of other series by the reason why they do not fit.
        force: take series of other modalities, too.
    """
    if importlib.util.find_spec("pydicom") is None and len(list_series(folder)) == 1:
        return [Case(Path(os.path.abspath(folder)).name, (folder,))]
    problems: list[InputError] = []
    found = find_dicom(folder, problems.append, _Everything(), (*VOLUMES, *PROJECTIONS))
    taken = set(map(os.path.realpath, places))
    images, others = ([one for one in kind if os.path.realpath(one.folder) in taken] for kind in found)
    left_out["damaged"] += [str(problem.file.relative_to(folder)) for problem in problems]
    # Files without a class are directories (DICOMDIR).
    more = [one for one in others if one.kind not in OBJECTS and one.header.get("SOPClassUID")]
    left_out["no images"] += [str(one.files[0].relative_to(folder)) for one in others if one not in more]
    images += _joined(more)
    cases = []
    for name, series in zip(series_names(images, root), images, strict=True):
        reason = _misfit(series, channels, ndim, force)
        if reason:
            left_out[reason].append(name)
        elif series.is_flat:
            cases.append(Case(name, series.files, group=series.patient))
        else:
            cases.append(Case(name, (series.folder,), group=series.patient, opener=SeriesOpener(series.uid)))
    return cases


def _joined(files: Sequence[DicomSeries]) -> list[DicomSeries]:
    """Series of the files that `find_dicom` returns one by one."""
    series = defaultdict(list)
    for one in files:
        series[one.folder, one.uid].append(one)
    return [
        DicomSeries(folder, uid, tuple(one.files[0] for one in same), same[0].header)
        for (folder, uid), same in series.items()
    ]


def _misfit(series: DicomSeries, channels: Sequence[str], ndim: int, force: bool) -> str:
    """Why a series does not fit a run; empty if it does."""
    expected = {MODALITIES.get(channel.upper(), "") for channel in channels}
    if len(channels) > 1:
        return f"DICOM series have one channel, the run takes {len(channels)}"
    if series.kind in MODALITIES.values() and not expected & {series.kind, ""} and not force:
        return f"modality {series.kind}, the run takes {channels[0]} (unless --force is given)"
    if series.is_localizer:
        return "localizers"
    frames = int(series.header.get("NumberOfFrames") or 1)
    several = frames > 1 or len(series.files) > 1
    axes = 2 + several
    return "" if axes == ndim else f"{axes} axes, the run takes images of {ndim}"

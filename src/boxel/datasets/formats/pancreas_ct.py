"""NIH Pancreas-CT: a DICOM series of each patient, and a NIfTI label map of the pancreas.

    PANCREAS_0001/.../*.dcm    any folders below
    .../label0001.nii.gz       for example in TCIA_pancreas_labels-02-05-2017/

The label maps are brought onto the grids of their images by the directions in their headers. Origins are not compared,
because those of the distribution do not agree with the series.
"""

import re
from pathlib import Path

from pydantic import NonNegativeInt

from boxel.datasets.annotations import LabelMapFile
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.dicom_files import SeriesOpener, find_dicom, has_dicom
from boxel.datasets.formats.options import ReaderOptions
from boxel.datasets.formats.registry import register_format
from boxel.datasets.problems import InputError, Report
from boxel.inputs.folders import listing

__all__ = ["Options", "detect", "read"]


class Options(ReaderOptions):
    """`min_size`: components of fewer voxels are left out; each of the others is an object."""

    min_size: NonNegativeInt = 1


def detect(path: Path) -> bool:
    return path.is_dir() and bool(_labels(path)) and has_dicom(path)


def _labels(path: Path) -> dict[str, Path]:
    files = [file for folder in (path, *listing(path)) for file in listing(folder, "label*.nii.gz")]
    return {match[1]: file for file in sorted(files) if (match := re.fullmatch(r"label(\d{4})\.nii\.gz", file.name))}


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set below `path`; problems of single cases go to `report`."""
    labels = _labels(path)
    cases = []
    for series in find_dicom(path, report)[0]:
        folder = "/".join(series.folder.relative_to(path).parts)
        match = re.search(r"PANCREAS_(\d{4})", f"{series.header.get('PatientID', '')} {folder}")
        name = match[0] if match else folder
        if not match or match[1] not in labels:
            problem, fix = "the series has no label map", "add the label0000.nii.gz with its number"
            report(InputError(series.folder, problem, fix, name))
            continue
        annotate = LabelMapFile(labels[match[1]], {1: 0}, True, min_size=options.min_size, compare_origin=False)
        cases.append(
            Case(name, (series.folder,), group=name, annotate=annotate, opener=SeriesOpener(series.uid, upright=True))
        )
    return Dataset(path, path.resolve().name, 3, ("pancreas",), ("CT",), tuple(cases))


register_format(
    "pancreas_ct", detect, read, "Pancreas-CT: PANCREAS_0001/ with DICOM, label0001.nii.gz", Options, order=20
)

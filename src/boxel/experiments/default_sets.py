"""Nine data sets that no default was chosen on, each with its parts and its metric.

Parts are by patient, or by image where there are no patients, and always the same. Test parts have 40 objects or more,
but for the volumes of nuclei and the pictures of DeepLesion, of which there are too few.
"""

from dataclasses import dataclass

from boxel.experiments.composed import EnlargedObjects, Quarters
from boxel.experiments.sources import DataFolder, MosaicOfCrops, PatientSplit, Source, ToyImages, project_data

AP50, AP10, SENSITIVITY = "AP@0.50", "AP@0.10", "sensitivity@0.10/fp=1"
_CROPS = ("values=instances", "modality=CT", "classes=nodule")


@dataclass(frozen=True)
class DataSet:
    """A data set of the experiment.

    Attributes:
        label: what it shows.
        source: its images and parts.
        metric: the one that decides about it.
    """

    label: str
    source: Source
    metric: str


def data_sets() -> dict[str, DataSet]:
    """The data sets by name; those of real images lie below the folder in `BOXEL_DATA`."""
    nuclei = PatientSplit(folder=_folder("nuclei", "pairs", "values=instances", "classes=nucleus"), test=0.25, val=0.15)
    embryos = _folder("nuclei3d/mouse_embryo_qcanet", "pairs", "values=instances", "classes=nucleus")
    tissue = _folder("nuclei3d/stardist", "pairs", "values=instances", "classes=nucleus", "ndim=3")
    hippocampus = _folder("hippocampus", "nnunet", "classes=anterior,posterior", "min_size=50")
    lesions = _folder("deeplesion/jpg8bit", "deeplesion_jpg", "classes=lesion")
    crops = {"path": project_data("lidc_nodules"), "format": "pairs", "options": _CROPS}
    return {
        "nuclei": DataSet("nuclei in fluorescence", nuclei, AP50),
        "blood_cells": DataSet(
            "blood cells", _folder("blood_cells/BCCD", "voc"), AP50
        ),
        "hippocampus": DataSet(
            "parts of the hippocampus, 3D", PatientSplit(folder=hippocampus, test=0.25, val=0.25), AP10
        ),
        "nuclei3d": DataSet("nuclei, 3D", Quarters(volumes=(embryos, tissue)), AP10),
        "lidc": DataSet("lung nodules, 3D", MosaicOfCrops(**crops, canvases=60, seed=1), AP10),
        "deeplesion": DataSet(
            "lesions in CT", PatientSplit(folder=lesions, test=0.34, val=0.34), AP10
        ),
        "toy": DataSet(
            "toy discs and rings",
            ToyImages(task="donuts_pattern", train_sizes=(100,), num_val=60, num_test=120, seed=100), AP50,
        ),
        "large": DataSet("large nuclei in three sizes", EnlargedObjects(images=nuclei), AP50),
        "sparse": DataSet(
            "few small nodules, 3D",
            MosaicOfCrops(**crops, canvases=45, seed=2, canvas=(48, 176, 176), lesions=3, tiles=16), AP10,
        ),
    }  # fmt: skip


def _folder(name: str, layout: str, *options: str) -> DataFolder:
    return DataFolder(path=project_data(name), format=layout, options=options)

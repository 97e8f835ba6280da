"""Boxel: detection of objects in medical images, in 2D, in slices with context, and in 3D.

import boxel

boxel.make_toy("toys", num_train=100, num_val=20, num_test=20)
boxel.prepare("toys", "work", recipe="retina_unet_small")
run = boxel.train("work", recipe="retina_unet_small")
detector = boxel.load(run)
detections = detector.predict("toys/imagesTs/test_00000_0000.mha")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from boxel.cores import share_cores

if TYPE_CHECKING:
    from boxel.api.consolidation import consolidate_folder
    from boxel.api.conversion import convert
    from boxel.api.demo import demo
    from boxel.api.detector import Detector, load
    from boxel.api.estimate import estimate
    from boxel.api.evaluation import compare, evaluate
    from boxel.api.operating_points import thresholds
    from boxel.api.planning import Planned, plan
    from boxel.api.prediction import predict
    from boxel.api.reporting import report
    from boxel.api.training import prepare, train
    from boxel.consolidation import ConsolidateConfig, RawPrediction, consolidate, read_raw
    from boxel.datasets.cases import Case, Dataset
    from boxel.datasets.formats import open_dataset, register_format
    from boxel.datasets.quality.check import check
    from boxel.datasets.toy import make_toy
    from boxel.evaluation import EvaluateConfig, Evaluation, register_metric
    from boxel.export.boxel_json import read_detections, write_detections
    from boxel.export.registry import register_export
    from boxel.io import read_image, read_label_map, write_image
    from boxel.models import Model, ModelConfig
    from boxel.operating_points import OperatingPoints, Shown
    from boxel.plugins import load_plugin
    from boxel.preparation.store import Store
    from boxel.recipes import Experiment, get_recipe
    from boxel.types import Batch, Detections, Geometry, Image, Instances, RawDetections, Task

_HOME = {
    "boxel.api.consolidation": ("consolidate_folder",),
    "boxel.api.conversion": ("convert",),
    "boxel.api.demo": ("demo",),
    "boxel.api.detector": ("Detector", "load"),
    "boxel.api.estimate": ("estimate",),
    "boxel.api.evaluation": ("compare", "evaluate"),
    "boxel.api.operating_points": ("thresholds",),
    "boxel.api.planning": ("Planned", "plan"),
    "boxel.api.prediction": ("predict",),
    "boxel.api.reporting": ("report",),
    "boxel.api.training": ("prepare", "train"),
    "boxel.consolidation": ("ConsolidateConfig", "RawPrediction", "consolidate", "read_raw"),
    "boxel.datasets.cases": ("Case", "Dataset"),
    "boxel.datasets.quality.check": ("check",),
    "boxel.datasets.formats": ("open_dataset", "register_format"),
    "boxel.plugins": ("load_plugin",),
    "boxel.preparation.store": ("Store",),
    "boxel.datasets.toy": ("make_toy",),
    "boxel.evaluation": ("EvaluateConfig", "Evaluation", "register_metric"),
    "boxel.export.boxel_json": ("read_detections", "write_detections"),
    "boxel.export.registry": ("register_export",),
    "boxel.io": ("read_image", "read_label_map", "write_image"),
    "boxel.models": ("Model", "ModelConfig"),
    "boxel.operating_points": ("OperatingPoints", "Shown"),
    "boxel.recipes": ("Experiment", "get_recipe"),
    "boxel.types": ("Batch", "Detections", "Geometry", "Image", "Instances", "RawDetections", "Task"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

share_cores()  # before torch and numpy are loaded

__version__ = "0.1.0"
__all__ = sorted(_MODULE)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import boxel` stays instant."""
    if name in ("models", "ops", "testing"):
        return import_module(f"boxel.{name}")
    if name not in _MODULE:
        raise AttributeError(f"module 'boxel' has no attribute {name!r}")
    return getattr(import_module(_MODULE[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

"""Valid inputs of every kind, small, and the commands that read them; made once per session."""

import gzip
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.types import Geometry, Image
from tests.end_to_end.commands import QUICK, set_words

LAYOUTS = Path(__file__).parents[2] / "docs" / "example_layouts.py"
SETTINGS = ["--recipe", "retina_unet_small", *set_words([*QUICK, "train.steps=2", "train.validate_every=2"])]
WRITTEN = ("csv", "nifti", "slicer", "mitk", "coco", "picai")
FOREIGN = (*WRITTEN, "label-maps", "nndetection")
# Layouts that need no more than `boxel check FOLDER`, and where their data set is.
CHECKED = (
    "nndetection", "nnunet", "decathlon", "coco", "voc", "yolo", "medyolo", "stage1_train", "pairs", "luna16", "boxes",
    "monai", "labelme", "via", "cvat", "cvat_yolo", "label_studio", "busi", "isic", "rsna_pneumonia", "vindr_cxr",
    "mosaic", "deeplesion", "deeplesion_jpg", "lidc", "pancreas_ct", "dicom",
)  # fmt: skip


@dataclass(frozen=True)
class Template:
    """A valid input: a folder, and commands in which `{d}` is a copy of it, `{o}` a new output, `{base}` all others.

    Attributes:
        name: of the template.
        folder: what is copied.
        commands: in the words of the command line.
        weight: how often it is drawn.
    """

    name: str
    folder: Path
    commands: tuple[str, ...]
    weight: float = 1.0


def make_templates(base: Path, boxel: Callable[..., None]) -> list[Template]:
    """Write every template below `base`, with `boxel` to run a command of Boxel that must succeed."""
    layouts = base / "layouts"
    subprocess.run([sys.executable, LAYOUTS, layouts], check=True, capture_output=True)
    for name, suffix, ndim in (("nii", ".nii", 3), ("mha", ".mha", 3), ("nrrd", ".nrrd", 3), ("tif", ".tif", 2)):
        _write_native(base / f"native_{name}", suffix, ndim)
    data, work, run = base / "native_nii", base / "work", base / "run"
    boxel("prepare", data, "--out", work, "--workers", 0, *SETTINGS)
    boxel("train", work, "--out", run, *SETTINGS)
    predictions = base / "predictions"
    boxel("predict", run, data / "imagesTr", "--out", predictions, "--segmentation")
    for file in predictions.glob("c?.json"):
        record = json.loads(file.read_text())
        file.write_text(json.dumps({**record, "detections": record["detections"][:3]}))
    for name in WRITTEN:
        boxel("convert", predictions, "--to", name, "--out", base / f"as_{name}")
    _write_foreign(base)
    _write_luna16(base / "luna16_tables")
    (base / "recipe").mkdir()
    shutil.copy(run / "config.json", base / "recipe" / "recipe.json")
    return list(_templates(base))


def _templates(base: Path) -> list[Template]:
    quick = " ".join(SETTINGS)
    own = " ".join(set_words(["train.steps=2", "train.num_workers=0", "train.batch_size=2"]))
    images = "{base}/native_nii/imagesTr"
    scored = "evaluate {d} {base}/native_nii --out {o} --resamples 10"
    found = [Template(name, base / "layouts" / name, ("check {d}",), 0.4) for name in CHECKED]
    found += [
        Template(f"native_{name}", base / f"native_{name}", (
            "check {d}", "check {d}", "check {d} --json --list", "check {d} --fix {o}",
            f"prepare {{d}} --out {{o}} --workers 0 {quick}", *more,
        ), 1.5)
        for name, more in (
            ("nii", ("predict {base}/run {d}/imagesTr --out {o}", "predict {base}/run {d} --out {o}",
                     "evaluate {base}/predictions {d} --out {o} --resamples 10",
                     "report {base}/run --predictions {base}/predictions --dataset {d} --out {o}.html")),
            ("mha", ("predict {base}/run {d}/imagesTr --out {o}",)),
            ("nrrd", ("predict {base}/run {d}/imagesTr --out {o}",)),
            ("tif", ()),
        )
    ]  # fmt: skip
    found.append(Template("predictions", base / "predictions", (
        scored, scored, scored + " --criterion centre_distance --rule voc", scored[:-15] + " --protocol segmentation",
        "compare {d} {base}/predictions {base}/native_nii --resamples 10", "consolidate {d} --out {o}",
        "convert {d} --to csv --out {o}", "convert {d} --to nifti --out {o}", "convert {d} --to preview --out {o}",
        "report {base}/run --predictions {d} --dataset {base}/native_nii --out {o}.html",
    ), 4))  # fmt: skip
    found += [
        Template(f"as_{name}", base / f"as_{name}", (
            f"{scored} --from {name}",
            f"convert {{d}} --from {name} --to boxel --out {{o}} --classes nodule --images {images}",
        ), 0.8)
        for name in FOREIGN
    ]  # fmt: skip
    found.append(Template("run", base / "run", (
        "predict {d} {base}/native_nii/imagesTr --out {o}", "report {d} --out {o}.html",
        f"train {{base}}/work --out {{d}} {quick}",
    ), 2))  # fmt: skip
    found.append(Template("work", base / "work", (f"train {{d}} --out {{o}} {quick}",), 1))
    found.append(Template("recipe", base / "recipe", (
        "models --recipe {d}/recipe.json", "models --recipe {d}/recipe.json --json",
        f"train {{base}}/work --out {{o}} --recipe {{d}}/recipe.json {own}",
        f"prepare {{base}}/native_nii --out {{o}} --workers 0 --recipe {{d}}/recipe.json {own}",
    ), 1.5))  # fmt: skip
    found.append(Template("luna16_tables", base / "luna16_tables", (
        "evaluate {d}/marks.csv {d} --protocol luna16 --out {o} --resamples 10",
    ), 1))  # fmt: skip
    return found


def _write_native(root: Path, suffix: str, ndim: int) -> None:
    rng, shape = np.random.default_rng(0), (10, 32, 40)[-ndim:]
    label_map = np.zeros(shape, np.uint8)
    label_map[((slice(3, 7), slice(10, 17), slice(12, 23)))[-ndim:]] = 1
    geometry = Geometry.plain(shape, (2.0, 1.0, 1.0) if ndim == 3 else None)
    for case in ("c1", "c2", "c3"):
        image = Image((rng.normal(size=(1, *shape)) * 20 + 100 + 80 * label_map).astype(np.float32), geometry)
        write_case(root, case, image, label_map, {1: 0}, suffix=suffix, compress=False)
    write_dataset(root, root.name, ndim, ["nodule"], ["CT"])


def _write_foreign(base: Path) -> None:
    """Predictions as other tools write them: numbered voxels with scores beside, and pickled arrays."""
    maps, pickles = base / "as_label-maps", base / "as_nndetection"
    maps.mkdir()
    pickles.mkdir()
    boxes = np.array([[3, 10, 7, 17, 12, 23]], np.float32)
    for case in ("c1", "c2", "c3"):
        shutil.copy(base / "native_nii" / "labelsTr" / f"{case}.nii", maps / f"{case}.nii")
        with gzip.open(maps / f"{case}.nii.gz", "wb") as file:
            file.write((maps / f"{case}.nii").read_bytes())
        (maps / f"{case}.nii").unlink()
        (maps / f"{case}.json").write_text('{"1": {"score": 0.9, "label": 0}}')
        record = {"pred_boxes": boxes, "pred_scores": np.ones(1, np.float32), "pred_labels": np.zeros(1, np.int64)}
        (pickles / f"{case}_boxes.pkl").write_bytes(pickle.dumps(record))


def _write_luna16(root: Path) -> None:
    root.mkdir()
    head = "seriesuid,coordX,coordY,coordZ,"
    nodules = "1.2.3,18,14,12,8\n1.2.4,18,14,12,8\n"
    (root / "annotations.csv").write_text(f"{head}diameter_mm\n{nodules}")
    (root / "annotations_excluded.csv").write_text(f"{head}diameter_mm\n1.2.3,40,40,40,5\n")
    (root / "seriesuids.csv").write_text("1.2.3\n1.2.4\n")
    (root / "marks.csv").write_text(f"{head}probability\n1.2.3,18,14,12,0.9\n1.2.4,1,2,3,0.5\n")

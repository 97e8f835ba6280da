"""Tables 1 to 4 of L-SNet: on Pancreas-CT for whoever has it, on nodules of LIDC-IDRI in mosaics, on the hippocampus.

A row that stands in several tables is one run. The paper has one figure for three rows, L-Net with cropping (tables 2
and 3) and gamma 0 (table 4), so these are one run too. A control gives coarse-to-fine the margin of L-SNet.

Reference: L-SNet, tables 1 to 4.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from boxel.evaluation.case_segmentation import THIRDS
from boxel.experiments.cell import Cell
from boxel.experiments.grid import Claim, Derived, Grid, Value, Values
from boxel.experiments.lesions import crops_of
from boxel.experiments.located import HEADINGS, Part, mean_located_iou
from boxel.experiments.sources import DataFolder, MosaicOfCrops, Source, project_data
from boxel.experiments.state import CellState
from boxel.models import CoarseToFineConfig, LSNetConfig
from boxel.recipes import Experiment, get_recipe
from boxel.recipes.segmentation import PUBLISHED_DSC, small_recipe

PANCREAS_PRESETS, LSNET_PRESETS = ("paper", "small"), ("mosaic", "seam", "hippocampus")
DSC = "DSC/slices_with_object"  # the headline of the paper, which trains and tests on such slices
_ONE_STAGE, _TWO_STAGES = ("unet", "attention_unet", "fcn"), ("coarse_to_fine_unet", "coarse_to_fine_fcn")
LABELS: dict[Value, str] = {
    "fcn": "FCN",
    "coarse_to_fine_fcn": "coarse-to-fine FCN",
    "lsnet_fcn": "L-SNet (FCN)",
    "unet": "U-Net",
    "attention_unet": "Attention U-Net",
    "coarse_to_fine_unet": "coarse-to-fine U-Net",
    "lsnet_unet": "L-SNet (U-Net)",
    "unet_bce": "U-Net, cross-entropy",
    "l_net_crop": "L-Net, then U-Net on what it cuts out",
    "gamma=0.01": "L-SNet (U-Net), gamma 0.01",
    "gamma=1": "L-SNet (U-Net), gamma 1",
    "narrow": "coarse-to-fine U-Net, margin as in L-SNet",
}
PUBLISHED: dict[str, float] = {
    **{row: percent / 100 for row, percent in PUBLISHED_DSC.items()},
    "unet_bce": 0.8469, "l_net_crop": 0.8786, "gamma=0.01": 0.8805, "gamma=1": 0.8721,
}  # fmt: skip
# The mean IoU of the located box on training and validation slices, tables 3 and 4.
PUBLISHED_IOU: dict[str, dict[Part, float]] = {
    "coarse_to_fine_unet": {"test": 0.8383},
    "l_net_crop": {"train": 0.9203, "test": 0.8658},
    "gamma=0.01": {"train": 0.8809, "test": 0.8488},
    "lsnet_unet": {"train": 0.8824, "test": 0.8498},
    "gamma=1": {"train": 0.8684, "test": 0.8468},
}
# The rows of tables 2 to 4 by their names there.
_TABLES: dict[str, dict[str, str]] = {
    "Table 2: components": {
        "S-Net": "unet_bce",
        "+ loss": "unet",
        "+ L-Net": "l_net_crop",
        "+ recalibration": "lsnet_unet",
    },
    "Table 3: the first stage": {"U-Net": "coarse_to_fine_unet", "L-Net": "l_net_crop"},
    "Table 4: gamma": {"0": "l_net_crop", "0.01": "gamma=0.01", "0.1": "lsnet_unet", "1": "gamma=1"},
}


def pancreas(preset: str, source: Source | None) -> Grid:
    if not isinstance(source, DataFolder):
        raise ValueError("pancreas has no data of its own; give the folder of Pancreas-CT with --data")
    # 512 voxels become 320, or 160, whatever their size in mm.
    step = 1.6 if preset == "paper" else 3.2
    plan = ("plan.window=[-100,240]", "plan.spacing_unit=voxel", f"plan.spacing=[1,{step},{step}]")
    recipe = get_recipe if preset == "paper" else partial(small_recipe, size=160)

    def cell(values: Values) -> Cell:
        experiment = _experiment(values, recipe).override(plan)
        return Cell(
            source=source, experiment=experiment, fold=int(values["fold"]), num_folds=4, protocol="segmentation"
        )

    return _grid(
        "pancreas", f"L-SNet, tables 1 to 4: Pancreas-CT ({preset})", cell, folds=4, seeds=1,
        published={(row,): {DSC: value} for row, value in PUBLISHED.items()},
        seconds=3 * 3600.0 if preset == "paper" else 3600.0,
    )  # fmt: skip


def lsnet(preset: str, source: Source | None) -> Grid:
    if preset == "hippocampus":
        about, size, seconds = "both parts of the hippocampus as one object", 64, 120.0
        data = source or DataFolder(path=project_data("hippocampus"), format="nnunet")
        if not isinstance(data, DataFolder):
            raise ValueError("the preset hippocampus reads a folder of the Medical Segmentation Decathlon")
        data = data.or_options("one_class=hippocampus")
    else:
        about, size, seconds = f"LIDC nodules in mosaics ({preset})", 160, 400.0
        crops = crops_of(source, one_class=True)
        data = MosaicOfCrops(
            path=crops.path, format=crops.format, options=crops.options, lesions=1,
            control="seam" if preset == "seam" else "none",
        )  # fmt: skip

    def cell(values: Values) -> Cell:
        experiment = _experiment(values, partial(small_recipe, size=size))
        return Cell(source=data, experiment=experiment, fold=int(values["fold"]), protocol="segmentation")

    def skip(values: Values) -> bool:
        of_table_1 = values["model"] in (*_ONE_STAGE, *_TWO_STAGES, "lsnet_unet", "lsnet_fcn")
        return not of_table_1 and (int(values["seed"]) > 0 or preset == "hippocampus")

    return _grid(
        "lsnet", f"L-SNet, {'table 1' if preset == 'hippocampus' else 'tables 1 to 4'}, slice by slice: {about}", cell,
        folds=1, seeds=1 if preset == "seam" else 3, skip=skip, seconds=seconds,
        tables={} if preset == "hippocampus" else _TABLES,
    )  # fmt: skip


def _grid(name: str, about: str, cell: Any, *, folds: int, seeds: int, tables: Any = _TABLES, **parts: Any) -> Grid:
    return Grid(
        name=name,
        version=2 if name == "lsnet" else 1,
        about=about,
        axes={"model": tuple(LABELS), "fold": tuple(range(folds)), "seed": tuple(range(seeds))},
        cell=cell,
        reference={"model": "unet"},
        metrics=(DSC, *(f"DSC/{third}" for third in THIRDS), "DSC/slices", "DSC"),
        claims=_CLAIMS,
        derived=tuple(TableOfPaper(title, rows) for title, rows in tables.items()),
        labels=LABELS,
        **parts,
    )


def _claim(text: str, better: str, worse: str) -> Claim:
    return Claim(text=text, better={"model": better}, worse={"model": worse}, metric=DSC, margin=0.0)


_CLAIMS = (
    _claim("L-SNet above coarse-to-fine, U-Net", "lsnet_unet", "coarse_to_fine_unet"),
    _claim("L-SNet above coarse-to-fine, FCN", "lsnet_fcn", "coarse_to_fine_fcn"),
    _claim("coarse-to-fine above one stage, U-Net", "coarse_to_fine_unet", "unet"),
    _claim("coarse-to-fine above one stage, FCN", "coarse_to_fine_fcn", "fcn"),
    _claim("L-Net locates better than U-Net", "l_net_crop", "coarse_to_fine_unet"),
    _claim("recalibration above cropping", "lsnet_unet", "l_net_crop"),
    _claim("the gradient helps: gamma 0.1 above 1", "lsnet_unet", "gamma=1"),
)


def _experiment(values: Values, recipe: Callable[[str], Experiment]) -> Experiment:
    """The settings of a row, from a function that gives those of a recipe."""
    row, seed = str(values["model"]), f"seed={values['seed']}"
    own = recipe(_recipe(row)).override([seed])
    model: Any = own.model
    if row == "unet_bce":
        return own.override(["model.net.class_loss=bce"])
    if row == "l_net_crop":
        first = recipe("lsnet_unet").model.first  # type: ignore[attr-defined]
        return own.model_copy(update={"model": model.model_copy(update={"first": first})})
    if row.startswith("gamma="):
        return own.override([f"model.gradient={row.partition('=')[2]}"])
    if row == "narrow":
        margins = LSNetConfig().margin / CoarseToFineConfig().margin
        return own.override([f"model.margin={model.margin * margins}"])
    return own


def _recipe(row: str) -> str:
    return {"unet_bce": "unet", "l_net_crop": "coarse_to_fine_unet", "narrow": "coarse_to_fine_unet"}.get(
        row, "lsnet_unet" if row.startswith("gamma=") else row
    )


@dataclass(frozen=True)
class TableOfPaper:
    """Rows of the grid under their names in a table of the paper, with the mean IoU of the boxes that they locate.

    That is left out unless the paper has it for all of them.
    """

    title: str
    rows: Mapping[str, str]

    def __call__(
        self, grid: Grid, out: Any, cells: Sequence[CellState], means: Sequence[tuple[Values, Mapping[str, float]]]
    ) -> Derived:
        by_model = {values["model"]: metrics for values, metrics in means}
        shown = HEADINGS if all(row in PUBLISHED_IOU for row in self.rows.values()) else {}
        columns = ["row", "run", "seeds", "DSC", "DSC, published"]
        for part, heading in shown.items():
            columns += [heading, f"published ({'training' if part == 'train' else 'validation'})"]
        lines = []
        for name, row in self.rows.items():
            seeds = {cell.values["seed"] for cell in cells if cell.values["model"] == row and cell.state == "done"}
            dsc, published = _number(by_model.get(row, {}).get(DSC)), _number(PUBLISHED[row])
            line = [name, LABELS[row], ", ".join(map(str, sorted(seeds))), dsc, published]
            for part in shown:
                line += [_number(mean_located_iou(out, cells, row, part)), _number(PUBLISHED_IOU[row].get(part))]
            lines.append(tuple(line))
        return Derived(self.title, tuple(columns), tuple(lines))


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.4f}"

"""Tables 1 and 2 of Retina U-Net for whoever has the data: raw folder in, table out beside the published numbers.

Reference: Jaeger et al., arXiv 1811.08661, tables 1 (LIDC-IDRI) and 2 (breast diffusion MRI).
"""

from functools import partial

from boxel.experiments.cell import Cell
from boxel.experiments.derived import CountsByRule
from boxel.experiments.grid import Grid, Value, Values
from boxel.experiments.lesions import VIEWS
from boxel.experiments.six_models import MODELS
from boxel.experiments.sources import DataFolder, Source
from boxel.recipes import Experiment, get_recipe
from boxel.recipes.published import OF_TABLES, result_in_table

LIDC_PRESETS = ("paper", "mdt", "small")
BREAST_PRESETS = ("paper", "small")  # the toolkit has no settings for these data
_SMALL = {"2d": ("plan.ndim=2",), "2dc": ("plan.ndim=2", "plan.context=3"), "3d": ()}
_ABOUT = {"lidc": "LIDC-IDRI, table 1", "breast": "breast diffusion MRI, table 2"}

_RULES = {"all": "absent readers as 0 (`all`)", "present": "mean of the readers present (`present`)"}
_COUNTS = {"benign": 1319, "malignant": 494}


def _table(data: str, preset: str, source: Source | None) -> Grid:
    if not isinstance(source, DataFolder):
        raise ValueError(f"{data} has no data of its own; give your data set with --data")
    by_rating = data == "lidc" and "classes=nodule" not in source.options
    if by_rating and not any(option.startswith("malignancy=") for option in source.options):
        # The papers' counts are those with absent readers as 0, see the reader.
        source = source.model_copy(update={"options": (*source.options, "classes=malignancy", "malignancy=all")})

    def cell(values: Values) -> Cell:
        return Cell(source=source, experiment=_experiment(data, preset, values), fold=int(values["fold"]))

    published: dict[tuple[Value, ...], dict[str, float]] = {}
    for view in VIEWS:
        for model in OF_TABLES:
            precision, patient = result_in_table(data, str(view), model)
            published[view, model] = {"AP@0.10": precision / 100, "patient_AP": patient / 100}
    return Grid(
        name=data,
        version=1,
        about=f"Retina U-Net paper: {_ABOUT[data]} ({preset})",
        axes={"view": tuple(VIEWS), "model": OF_TABLES, "fold": tuple(range(5)), "seed": (0,)},
        cell=cell,
        reference={"model": "retina_net"},
        metrics=("AP@0.10", "patient_AP"),
        published=published,
        derived=(CountsByRule(source, "malignancy", _RULES, _COUNTS),) if by_rating else (),
        labels={**MODELS, **VIEWS},
        seconds=3600.0 if preset == "small" else 8 * 3600.0,
    )


def _experiment(data: str, preset: str, values: Values) -> Experiment:
    view, model = str(values["view"]), str(values["model"])
    seed = [f"seed={values['seed']}"]
    if preset == "small":
        return get_recipe(f"{model}_small").override([*_SMALL[view], *seed])
    return get_recipe(f"{preset}_{data}_{view}", model).override(seed)


lidc, breast = partial(_table, "lidc"), partial(_table, "breast")

"""Grids: the paths of cells, patterns that choose some, names that equal cells share; the grids of Boxel."""

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boxel.config import Config
from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.toy import make_toy
from boxel.experiments import choose
from boxel.experiments.cell import Cell
from boxel.experiments.grid import Claim, path_of
from boxel.experiments.sources import DataFolder, ToyImages
from boxel.experiments.state import states
from boxel.locks import locked
from boxel.recipes import get_recipe
from tests.unit.experiments.made_up import made_up_grid, write_done

TOY = choose("toy").grid()


def paths(cells) -> list[str]:
    return [path_of(values) for values in cells]


def test_a_cell_is_named_by_its_values_in_the_order_of_the_axes():
    assert paths(made_up_grid())[:2] == ["retina_net/n=10/seed=0", "retina_net/n=10/seed=1"]
    assert len(paths(made_up_grid())) == len(set(paths(made_up_grid()))) == 12


def test_a_cell_of_an_earlier_boxel_which_had_fewer_settings_is_recognised_by_what_it_ran(tmp_path):
    grid = made_up_grid()
    values = next(iter(grid))
    folder = write_done(tmp_path, grid, values, 0.5)
    record = json.loads((folder / "cell.json").read_text())
    del record["experiment"]["train"]["sampler"]["slices"]  # as if it had been added since
    record["experiment"]["train"]["schedule"] = "poly"  # a name alone until then
    (folder / "cell.json").write_text(json.dumps(record))
    folder.rename(folder.with_name("0123456789abcdef"))
    write_done(tmp_path, grid, values, 0.6).rename(folder.with_name(f"floor-{folder.name}"))  # a baseline's
    states_of = {state.path: state for state in states(grid, tmp_path)}
    assert states_of[path_of(values)].state == "done"
    assert states_of[path_of(values)].name == "0123456789abcdef"
    assert [state.state for state in states_of.values()].count("done") == 1


def test_skipped_combinations_are_no_cells():
    grid = made_up_grid(skip=lambda values: values["model"] == "retina_unet" and values["n"] == 20)
    assert len(paths(grid)) == 9
    assert not [path for path in paths(grid) if path.startswith("retina_unet/n=20")]


@pytest.mark.parametrize(
    ("patterns", "count"),
    [
        ([], 12),
        (["retina_net"], 6),
        (["*_unet"], 6),
        (["n=10"], 6),
        (["retina_net/n=20/seed=1"], 1),
        (["/retina_net/n=20/seed=1/"], 1),
        (["*/n=1*/seed=[01]"], 4),
        (["retina_net", "seed=0"], 8),
        (["retina_net", "retina_net"], 6),
        (["*"], 12),
    ],
)
def test_patterns_choose_cells_in_the_order_of_the_grid(patterns, count):
    chosen = paths(made_up_grid().select(patterns))
    assert len(chosen) == count
    assert chosen == [path for path in paths(made_up_grid()) if path in chosen]


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("retina_nett", "'retina_nett' is not a value of an axis; did you mean 'retina_net'"),
        ("retina_net/n=30/seed=0", "'n=30' is not a value of an axis; did you mean 'n=20'"),
        ("retina_net/n=10", "a pattern has one part, or one for each axis: MODEL/N/SEED"),
        ("n=10/retina_net/seed=0", "a pattern has one part, or one for each axis: MODEL/N/SEED"),
        ("", "'' is not a value of an axis"),
    ],
)
def test_a_pattern_that_fits_no_cell_says_why(pattern, says):
    with pytest.raises(ValueError, match="fits no cell of made_up") as error:
        made_up_grid().select(["seed=0", pattern])
    assert says in str(error.value)


def test_a_pattern_of_skipped_cells_says_so():
    with pytest.raises(ValueError, match="the grid skips this combination"):
        TOY.select(["scale/retina_net_mdt/n=20/seed=0"])


def test_equal_cells_of_two_grids_have_one_name(tmp_path):
    source = DataFolder(path=str(tmp_path))
    one = choose("cross_validation", "quick", source).grid()
    six = choose("cross_validation", "models", source).grid()
    names = {path_of(values): six.cell(values).name for values in six}
    assert {path_of(values): one.cell(values).name for values in one}.items() <= names.items()
    assert len(set(names.values())) == 30


def leaves(record: Config, path: str = "") -> Iterator[tuple[str, Any]]:
    for name in type(record).model_fields:
        value = getattr(record, name)
        if isinstance(value, Config):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def changed(record: Any, path: str) -> Any:
    """The record with another value of a leaf, valid or not."""
    name, _, rest = path.partition(".")
    value = getattr(record, name)
    match value:
        case Config():
            other = changed(value, rest)
        case bool():
            other = not value
        case int() | float():
            other = value + 1
        case str():
            other = f"{value}x"
        case tuple():
            other = (*value, "x")
        case None:
            other = 1
        case _:
            other = "x"
    return record.model_copy(update={name: other})


def cell_of(model: str) -> Cell:
    source = ToyImages(task="donuts_shape", train_sizes=(10, 20))
    return Cell(source=source, experiment=get_recipe(f"{model}_small"))


SAME_RESULT = {f"experiment.{key}" for key in ("recipe", "reproduces", "train.accelerator", "train.compile",
               "train.num_workers", "train.save_every", "predict.batch_size")}  # fmt: skip
CELLS = {model: cell_of(model) for model in ("retina_unet", "mask_rcnn", "det_unet")}
LEAVES = [(model, path) for model, cell in CELLS.items() for path, _ in leaves(cell)]


@pytest.mark.parametrize(("model", "path"), LEAVES, ids="-".join)
def test_the_name_of_a_cell_depends_on_every_setting_that_changes_the_result(model, path):
    with warnings.catch_warnings():  # some of the changed values are of another type than their setting
        warnings.simplefilter("ignore")
        same = changed(CELLS[model], path).name == CELLS[model].name
    assert same == (path in SAME_RESULT)


def test_every_setting_that_does_not_change_the_result_exists():
    assert {path for _, path in LEAVES} >= SAME_RESULT


def test_the_name_of_a_cell_survives_its_file(tmp_path):
    cell = cell_of("mask_rcnn")
    cell.save(tmp_path / "cell.json")
    assert Cell.load(tmp_path / "cell.json") == cell
    assert Cell.load(tmp_path / "cell.json").name == cell.name


def test_cells_share_prepared_data_unless_the_plan_or_the_folds_differ():
    cell = cell_of("retina_unet")
    other = cell.model_copy(update={"fold": 1, "experiment": get_recipe("mask_rcnn_small").override(["seed=3"])})
    assert other.prepared_name == cell.prepared_name
    for update in (
        {"split_seed": 1}, {"num_folds": 4}, {"source": cell.source.model_copy(update={"seed": 1})},
        {"experiment": cell.experiment.override(["plan.ndim=2"])},
    ):  # fmt: skip
        assert cell.model_copy(update=update).prepared_name != cell.prepared_name


BOXES_ONLY = ("retina_net", "faster_rcnn_plus", "retina_net_mdt")


def test_toy_has_72_cells_in_the_key_pair_and_every_cell_its_own_path():
    key = [one for one in TOY if one["model"] in ("retina_net", "retina_unet") and one["n"] in (20, 40)
           and one["task"] in ("pattern", "shape")]  # fmt: skip
    assert len(key) == 96
    assert len({TOY.cell(values).name for values in key}) == 72
    assert {values["seed"] for values in key} == set(range(12))
    assert len(paths(TOY)) == len(set(paths(TOY)))


def test_models_that_see_boxes_only_share_the_cells_of_pattern_and_shape_and_others_do_not():
    for values in TOY:
        if values["task"] == "shape":
            twin = {**values, "task": "pattern"}
            assert (TOY.cell(values).name == TOY.cell(twin).name) == (values["model"] in BOXES_ONLY)


def test_patterns_and_shapes_have_the_same_images_and_boxes_but_other_masks(ndim, tmp_path):
    for task in ("donuts_pattern", "donuts_shape"):
        make_toy(tmp_path / task, task, "paper", num_train=6, num_val=2, num_test=4, ndim=ndim, size=48)
    pattern, shape = (open_dataset(tmp_path / task) for task in ("donuts_pattern", "donuts_shape"))
    assert [case.id for case in pattern.cases] == [case.id for case in shape.cases]
    masks_differ = False
    for of_pattern, of_shape in zip(pattern.cases, shape.cases, strict=True):
        [a], [b] = of_pattern.channels, of_shape.channels
        assert Path(a).read_bytes() == Path(b).read_bytes()
        a, b = read_case(of_pattern, pattern), read_case(of_shape, shape)
        assert np.array_equal(a.instances.boxes, b.instances.boxes)
        assert np.array_equal(a.instances.labels, b.instances.labels)
        masks_differ |= not np.array_equal(a.label_map, b.label_map)
    assert masks_differ


def test_rows_of_one_seed_train_on_the_same_images():
    for grid in (TOY, choose("toy", "full").grid()):
        by_place: dict[tuple, set[str]] = {}
        for values in grid:
            source = grid.cell(values).source.model_copy(update={"task": ""}).to_json()
            by_place.setdefault((values["n"], values["seed"]), set()).add(source)
        assert all(len(sources) == 1 for sources in by_place.values())


@pytest.mark.parametrize("preset", ["quick", "full"])
def test_the_claims_of_toy_are_about_rows_that_it_has(preset):
    grid = choose("toy", preset).grid()
    rows = {tuple(values[axis] for axis in grid.row_axes) for values in grid}
    for claim in grid.claims:
        named = {**claim.better, **claim.worse, **claim.where, **(claim.minus or {})}
        assert named.keys() <= set(grid.row_axes)
        for side in (claim.better, claim.worse):
            for place in filter(None, (claim.where, claim.minus)):
                assert any(all(dict(zip(grid.row_axes, row, strict=True))[axis] == value
                               for axis, value in {**place, **side}.items()) for row in rows)  # fmt: skip


def test_a_claim_with_an_unknown_kind_is_an_error():
    with pytest.raises(ValueError, match="kind"):
        Claim(text="x", better={}, worse={}, kind="worse")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("toi",), "unknown experiment 'toi'; did you mean 'toy'"),
        (("toy", "quik"), "unknown preset 'quik' of toy; did you mean 'quick'"),
        (("toy", "", DataFolder(path="/data")), "toy brings its own data; leave out --data"),
        (("cross_validation",), "no data of its own; give a data set with --data"),
    ],
)
def test_a_choice_that_does_not_exist_is_an_error(words, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        choose(*words)


def test_a_row_is_labelled_by_the_model_that_overrides_choose(tmp_path):
    source = DataFolder(path=str(tmp_path))
    choices = ('model={"type": "retina_net"}',)
    assert choose("cross_validation", source=source).grid().label("retina_unet") == "Retina U-Net"
    assert choose("cross_validation", source=source, overrides=choices).grid().label("retina_unet") == "Retina Net"


def test_a_running_cell_shows_its_step_and_rate(tmp_path):
    grid = made_up_grid()
    values = {"model": "retina_net", "n": 10, "seed": 0}  # ten steps
    cell = grid.cell(values)
    folder = tmp_path / "cells" / cell.name
    (folder / "run").mkdir(parents=True)
    with locked(folder, "boxel experiment"):
        (state,) = states(grid, tmp_path, [values])
        assert (state.state, state.note) == ("running", "preparing")
        cell.experiment.save(folder / "run" / "config.json")  # with the epochs in steps
        (folder / "run" / "metrics.jsonl").write_text('{"step": 3, "seconds": 1}\n{"step": 6, "seconds": 4}\n')
        (state,) = states(grid, tmp_path, [values])
        assert (state.state, state.note) == ("running", "step 6 of 10, 1.50 per s")
    (state,) = states(grid, tmp_path, [values])
    assert (state.state, state.note) == ("missing", "")


def test_the_hippocampus_is_one_class_wherever_its_folder_is():
    folder = DataFolder(path="/elsewhere", format="nnunet")
    for source in (None, folder):
        grid = choose("lsnet", "hippocampus", source).grid()
        assert grid.cell(next(iter(grid))).source.options == ("one_class=hippocampus",)
        assert not grid.derived  # the rows of tables 2 to 4 are not run there
    own = folder.model_copy(update={"options": ("min_size=3",)})
    assert choose("lsnet", "hippocampus", own).grid().cell(next(iter(grid))).source == own

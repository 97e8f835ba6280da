"""The experiment on the defaults: its grid, its table, and its nine data sets."""

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.label_maps import tight_boxes
from boxel.datasets.split import dataset_splits
from boxel.experiments import defaults
from boxel.experiments.default_sets import data_sets
from boxel.experiments.registry import choose
from boxel.experiments.run import run
from boxel.experiments.sources import ValidationPart
from boxel.experiments.tables import collect
from boxel.types import silent
from tests.unit.experiments.made_up import write_done

COMPOSED = ("lidc", "sparse", "large")
PLAIN = ("nuclei", "blood_cells", "hippocampus", "nuclei3d", "deeplesion", "toy")
TOO_FEW = ("nuclei3d", "deeplesion")


@pytest.fixture
def two_variants(monkeypatch):
    monkeypatch.setattr(defaults, "VARIANTS", {defaults.DEFAULT: (), "fast": ("train.lr=4e-3",)})


def test_only_the_preset_test_sees_the_test_parts():
    for preset in defaults.PRESETS:
        grid = choose("defaults", preset).grid()
        sources = [grid.cell(values).source for values in grid]
        assert len(sources) == 9 * len(defaults.VARIANTS) * 3
        assert {isinstance(source, ValidationPart) for source in sources} == {preset == "validation"}
    assert choose("defaults").preset == "validation"


def test_every_variant_is_an_experiment_of_its_own():
    grid = choose("defaults").grid()
    assert len({grid.cell(values).name for values in grid}) == len(list(grid))


def test_a_variant_changes_its_settings_and_nothing_else(two_variants):
    grid = choose("defaults").grid()
    for data in data_sets():
        cells = [grid.cell({"data": data, "variant": variant, "seed": 1}) for variant in defaults.VARIANTS]
        assert [cell.experiment.train.lr for cell in cells] == [2e-3, 4e-3]
        assert {cell.experiment.seed for cell in cells} == {1}
        plain, fast = (cell.experiment.override(["train.lr=1"]).to_dict() for cell in cells)
        assert plain == fast
        assert len({cell.prepared_name for cell in cells}) == 1


def test_the_table_pairs_each_data_set_by_its_own_metric(tmp_path, two_variants):
    grid = choose("defaults").grid()
    choose("defaults").save(tmp_path / "grid.json")
    values = {"nuclei": (0.5, 0.6), "lidc": (0.3, 0.2), "toy": (0.7, 0.9)}
    metrics = {name: data_sets()[name].metric for name in values}
    assert list(metrics.values()) == ["AP@0.50", "AP@0.10", "AP@0.50"]
    for data, pair in values.items():
        for variant, value in zip(("default", "fast"), pair, strict=True):
            for seed in range(3):
                known = {name: value + 0.01 * seed if name == metrics[data] else 0.0 for name in grid.metrics}
                write_done(tmp_path, grid, {"data": data, "variant": variant, "seed": seed}, 0.0, metrics=known)
    [table] = collect(tmp_path).derived
    rows = {(variant, data): row for variant, data, *row in table.rows}
    assert rows["default", "nuclei in fluorescence"][:2] == ["AP@0.50", "3"]
    assert rows["default", "nuclei in fluorescence"][2].startswith("0.510 (")
    assert rows["fast", "lung nodules, 3D"][3] == "-0.100 (-0.100, -0.100)"
    mean, half = 0.2 / 3, 4.302653 * np.std([0.1, -0.1, 0.2], ddof=1) / 3**0.5
    assert rows["fast", "all"][3:] == [f"{mean:+.3f} ({mean - half:+.3f}, {mean + half:+.3f})", "2 of 3"]
    assert "| fast | all |" in (tmp_path / "table.md").read_text()


def test_the_folder_of_missing_images_is_said_without_an_option_that_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("BOXEL_DATA", str(tmp_path / "none"))
    with pytest.raises(ValueError, match=r"nuclei: no such folder, but defaults reads .*; give the folder"):
        run("defaults", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def check_parts(name, folder):
    source = data_sets()[name].source
    dataset = source.open(folder, silent)
    split = dataset_splits(dataset)[0]
    validation = ValidationPart(source=source).open(folder, silent)
    own = dataset_splits(validation)[0]
    assert own.test == split.val
    assert not {case.id for case in validation.cases} & set(split.test)
    for one, data in ((split, dataset), (own, validation)):
        groups = [{data[case].group or case for case in ids} for _, ids in one]
        assert all(groups)
        assert not any(a & b for k, a in enumerate(groups) for b in groups[k + 1 :])
    objects = 0
    for case in split.test:
        loaded = read_case(dataset[case], dataset, repair=True)
        objects += len(loaded.instances)
        masks = loaded.instances.has_mask
        if masks.any():
            ids, boxes = tight_boxes(loaded.label_map)
            of_id = dict(zip(ids.tolist(), boxes.tolist(), strict=True))
            assert [of_id[n] for n in loaded.instances.ids[masks].tolist()] == loaded.instances.boxes[masks].tolist()
    assert objects >= (10 if name in TOO_FEW else 40)


@pytest.mark.data
@pytest.mark.parametrize("name", PLAIN)
def test_a_data_set_opens_with_patients_in_one_part_only(name, data, tmp_path, monkeypatch):
    monkeypatch.setenv("BOXEL_DATA", str(data))
    check_parts(name, tmp_path)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", COMPOSED)
def test_a_composed_data_set_opens_with_patients_in_one_part_only(name, data, tmp_path, monkeypatch):
    monkeypatch.setenv("BOXEL_DATA", str(data))
    check_parts(name, tmp_path)

"""The experiment on blood cells."""

import pytest

from boxel.experiments.registry import choose
from boxel.experiments.run import run
from boxel.experiments.sources import DataFolder


def test_rows_of_the_blood_cells_differ_from_the_plain_one_in_one_thing():
    grid = choose("blood_cells", "quick", DataFolder(path="/cells", format="voc")).grid()
    plain = {"pixels": 320, "order": "epoch", "optimizer": "adam"}
    rows = [values for values in grid if values["seed"] == 0]
    assert len(rows) == 11
    for values in rows:
        assert sum(values[axis] != value for axis, value in plain.items()) <= 1
        plan, train = grid.cell(values).experiment.plan, grid.cell(values).experiment.train
        assert (plan.spacing[0] * int(values["pixels"]), train.sampler.order) == (640, values["order"])
        assert all(length % 32 == 0 for length in plan.patch_size)
        if values["model"] == "yolov4_fine":
            assert plan.levels == (2, 4, 5)


def test_data_that_are_missing_are_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("BOXEL_DATA", str(tmp_path / "none"))
    for name, preset in (("blood_cells", "quick"), ("lsnet", "mosaic"), ("deeplesion", "sample")):
        with pytest.raises(ValueError, match=rf"none/.*: no such folder, but {name} reads.*--data"):
            run(name, tmp_path / "out", preset=preset)
    assert not (tmp_path / "out").exists()

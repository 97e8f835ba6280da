"""Folds are evaluated together: the predictions of all of them, on all patients, by one score threshold."""

import statistics

import numpy as np
import pytest

import boxel
from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.native_writer import write_case, write_dataset, write_splits
from boxel.experiments.collect import check_folds, collect_results
from boxel.experiments.tables import markdown
from boxel.export import write_detections
from boxel.types import Detections, Geometry, Image
from tests.unit.experiments.made_up import made_up_grid, write_done

METRICS = ("AP@0.10", "AP@0.50", "AP@0.50/malignant", "patient_AP")
CASES = tuple("abcdefghij")


@pytest.fixture
def data(ndim, rng, tmp_path):
    """Ten patients with an object each of one of two classes; the last has none."""
    root, shape = tmp_path / "data", (8, 16, 16)[-ndim:]
    for number, case in enumerate(CASES):
        labels = np.zeros(shape, np.uint8)
        labels[(slice(2, 6),) * ndim] = case != "j"
        image = Image(rng.normal(size=(1, *shape)).astype(np.float32), Geometry.plain(shape))
        write_case(root, case, image, labels, {} if case == "j" else {1: number % 2})
    write_dataset(root, "folds", ndim, ["benign", "malignant"], ["CT"])
    return root


def grid_of(data, seeds=(0,)):
    axes = {"model": ("retina_net",), "fold": tuple(range(5)), "seed": seeds}
    return made_up_grid(data, axes=axes, reference=None, metrics=METRICS)


def detections_of(ndim: int, number: int, rng: np.random.Generator) -> Detections:
    """The object of the case, sometimes as the wrong class, and a false positive; scores shrink from fold to fold."""
    right, wrong = [[2] * ndim, [6] * ndim], [[0] * ndim, [1] * ndim]
    scores = np.array([0.9, 0.2]) * rng.uniform(0.2, 1.0) / (1 + number // 2)
    labels = np.array([number % 2 if rng.random() < 0.8 else 1 - number % 2, number % 2])
    boxes = np.array([right, wrong], np.float32)
    return Detections(boxes, scores.astype(np.float32), labels, Geometry.plain((8, 16, 16)[-ndim:]))


def write_folds(out, grid, data, parts, ndim):
    """Cells whose predictions were made up; returns all of them and the metrics of each fold."""
    rng, dataset = np.random.default_rng(1), open_dataset(data)
    predicted = {case: detections_of(ndim, number, rng) for number, case in enumerate(CASES)}
    each = []
    for values in grid:
        folder = write_done(out, grid, values, 0.0)
        part = parts[values["fold"]]
        for case in part:
            write_detections(folder / "predictions" / f"{case}.json", predicted[case], case, dataset.classes)
        own = boxel.evaluate(folder / "predictions", dataset, config={"num_resamples": 0})
        each.append(own.metrics)
        write_done(out, grid, values, 0.0, metrics={name: own.metrics[name] for name in METRICS})
    return predicted, each


PARTS = [CASES[2 * k : 2 * k + 2] for k in range(5)]


def test_the_metric_of_five_folds_is_that_of_all_predictions_together(data, ndim, tmp_path):
    grid = grid_of(data)
    predicted, each = write_folds(tmp_path / "out", grid, data, PARTS, ndim)
    ground_truth = {
        case: {
            "boxes": [] if case == "j" else [[[2] * ndim, [6] * ndim]],
            "labels": [] if case == "j" else [number % 2],
        }
        for number, case in enumerate(CASES)
    }
    whole = boxel.evaluate(predicted, ground_truth, classes=["benign", "malignant"]).metrics
    results = collect_results(grid, tmp_path / "out")
    [row] = results.rows
    for name in METRICS:
        assert row.metrics[name].value == pytest.approx(whole[name], abs=1e-7)
        mean = statistics.mean(one[name] for one in each if one.get(name) is not None)
        assert row.fold_means[name] == pytest.approx(mean)
    assert abs(row.fold_means["AP@0.10"] - row.metrics["AP@0.10"].value) > 0.02
    assert row.metrics["AP@0.10"].over_patients == pytest.approx(whole["AP@0.10/ci95"], abs=0.05)
    text = markdown(results)
    assert "| AP@0.10 | AP@0.10, mean of folds |" in text
    assert f"| 1 of 1 | {whole['AP@0.10']:.3f} [" in text
    assert f" | {row.fold_means['AP@0.10']:.3f} | " in text
    assert "folds are pooled before they are evaluated" in text


def test_the_resamples_of_pooled_folds_are_of_all_patients(data, ndim, tmp_path):
    grid = grid_of(data)
    write_folds(tmp_path / "out", grid, data, PARTS, ndim)
    collect_results(grid, tmp_path / "out")
    [file] = (tmp_path / "out" / "pooled").glob("*/resamples.npz")
    with np.load(file) as arrays:
        assert arrays["num_groups"] == [10]
    before = file.read_bytes()
    changed = file.stat().st_mtime_ns
    collect_results(grid, tmp_path / "out")
    assert (file.read_bytes(), file.stat().st_mtime_ns) == (before, changed)


def test_a_seed_with_a_missing_fold_is_not_used(data, ndim, tmp_path):
    grid = grid_of(data, seeds=(0, 1))
    write_folds(tmp_path / "out", grid, data, PARTS, ndim)
    lost = next(values for values in grid if (values["fold"], values["seed"]) == (3, 1))
    (tmp_path / "out" / "cells" / grid.cell(lost).name / "done.json").unlink()
    results = collect_results(grid, tmp_path / "out")
    [row] = results.rows
    assert (row.metrics["AP@0.10"].num_seeds, row.num_seeds) == (1, 2)
    assert row.fold_means == {}
    assert [cell.path for cell in results.missing] == ["retina_net/fold=3/seed=1"]


def test_folds_that_were_tested_on_one_case_twice_cannot_be_pooled(data, ndim, tmp_path):
    grid = grid_of(data)
    write_folds(tmp_path / "out", grid, data, [*PARTS[:4], ("i", "j", "a")], ndim)
    with pytest.raises(
        ValueError, match="retina_net/fold=0/seed=0 and retina_net/fold=4/seed=0 were both tested on case 'a'"
    ):
        collect_results(grid, tmp_path / "out")
    assert not list((tmp_path / "out").glob("pooled/*/resamples.npz"))


def test_folds_that_leave_out_a_case_cannot_be_pooled(data, ndim, tmp_path):
    grid = grid_of(data)
    write_folds(tmp_path / "out", grid, data, [("a",), *PARTS[1:4], ("i",)], ndim)
    says = r"none of retina_net/fold=0/seed=0, .* was tested on case 'b' \(2 in all\)"
    with pytest.raises(ValueError, match=says):
        collect_results(grid, tmp_path / "out")


def test_folds_that_cannot_be_pooled_are_an_error_before_anything_is_trained(data):
    grid = grid_of(data)
    check_folds(grid, grid)
    write_splits(data, [{"train": list("abcdef"), "val": ["g", "h"], "test": ["i", "j"]}] * 3)
    with pytest.raises(ValueError, match=r"has 3 folds, made_up needs 5; .* write 5 folds into splits.json"):
        check_folds(grid, grid)
    write_splits(data, [{"train": list("abcdef"), "val": ["g", "h"], "test": ["i", "j"]}] * 5)
    with pytest.raises(ValueError, match="fold=0 and fold=1 were both tested on case 'i'"):
        check_folds(grid, grid)


def test_a_data_set_with_test_images_has_no_folds_to_pool(native):
    grid = made_up_grid(native, axes={"model": ("retina_net",), "fold": (0, 1), "seed": (0,)})
    with pytest.raises(
        ValueError, match=r"fold=0 and fold=1 were both tested on case 'd'.*folds of a held-out test set"
    ):
        check_folds(grid, grid)

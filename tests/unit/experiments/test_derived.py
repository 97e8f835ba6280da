"""Further tables of an experiment, of made-up cells: every number was calculated by hand."""

import math

import numpy as np
import pytest

from boxel.datasets.formats import open_dataset
from boxel.datasets.toy import make_toy
from boxel.experiments.collect import collect_results
from boxel.experiments.derived import FalsePositivesByScore, RankCorrelation, spearman
from boxel.experiments.tables import markdown
from boxel.export.boxel_json import write_detections
from boxel.types import Detections
from tests.unit.experiments.made_up import made_up_grid, write_done, write_values


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1),
        # ranks 2, 1, 4, 3, 5: 1 - 6 x 4 / (5 x 24)
        ([1, 2, 3, 4, 5], [2, 1, 5, 2.5, 9], 0.8),
        # ranks 1.5, 1.5, 3 against 1, 2, 3: 1.5 / sqrt(1.5 x 2)
        ([7, 7, 8], [1, 2, 3], 1.5 / math.sqrt(3)),
    ],
)
def test_spearman_is_that_of_the_ranks_and_shares_ties(a, b, expected):
    assert spearman(np.array(a), np.array(b)) == pytest.approx(expected)


def test_the_order_of_a_constant_metric_is_undefined():
    assert math.isnan(spearman(np.array([1.0, 1, 1]), np.array([1.0, 2, 3])))


def test_two_metrics_are_correlated_over_the_rows_by_rank(tmp_path, monkeypatch):
    grid = made_up_grid(metrics=("AP@0.10", "patient_AP"), derived=(RankCorrelation("AP@0.10", "patient_AP"),))
    assert "Rank correlation" not in markdown(collect_results(grid, tmp_path))
    ranked = {"retina_net/n=10": (0.1, 0.7), "retina_net/n=20": (0.2, 0.6), "retina_unet/n=10": (0.3, 0.8),
              "retina_unet/n=20": (0.4, 0.9)}  # fmt: skip
    for values in grid:
        first, second = ranked[f"{values['model']}/n={values['n']}"]
        folder = write_done(tmp_path, grid, values, first)
        with np.load(folder / "resamples.npz") as arrays:
            other = {key: np.full_like(array, second) for key, array in arrays.items() if key.startswith("patient_AP")}
            np.savez(folder / "resamples.npz", **{**arrays, **other})
    # Ranks 1 2 3 4 against 2 1 3 4: 1 - 6 x 2 / (4 x 15).
    table = (
        "## Rank correlation of AP@0.10 and patient_AP (Spearman)\n\n| rows | correlation |\n|---|---|\n| 4 | +0.800 |"
    )
    assert table in markdown(collect_results(grid, tmp_path))


def test_false_positives_are_counted_per_image_by_score(tmp_path, ndim):
    data = make_toy(tmp_path / "data", num_train=2, num_val=0, num_test=0, ndim=ndim, size={2: 64, 3: 32}[ndim])
    chosen = FalsePositivesByScore({"model": "retina_net"}, edges=(0.0, 0.5, 1.0))
    grid = made_up_grid(data, axes={"model": ("retina_net", "retina_unet"), "seed": (0, 1)}, derived=(chosen,))
    write_values(tmp_path, grid, {"retina_net/seed=0": 0.5, "retina_net/seed=1": 0.5, "retina_unet/seed=0": 0.5})
    corner = np.array([np.zeros(ndim), np.ones(ndim)], np.float32)  # no object lies in the corner
    for seed, scores in enumerate(([0.1, 0.2, 0.7, 1.0], [0.5, 0.6])):
        folder = tmp_path / "cells" / grid.cell({"model": "retina_net", "seed": seed}).name / "predictions"
        for case, own in (("train_00000", scores), ("train_00001", ())):
            boxes, labels = np.repeat(corner[None], len(own), 0), np.zeros(len(own), np.int64)
            write_detections(
                folder / f"{case}.json",
                Detections(boxes, np.array(own, np.float32), labels),
                case,
                open_dataset(data).classes,
            )
    # Of two images: (2 + 0) / 2 cells / 2 images below, (2 + 2) / 2 / 2 above.
    text = markdown(collect_results(grid, tmp_path))
    assert "| Retina Net" not in text
    assert text.split("per image |\n")[1].splitlines()[1:3] == [
        "| retina_net | 0-0.5 | 0.500 | 0.000 |", "| retina_net | 0.5-1 | 1.000 | 0.000 |",
    ]  # fmt: skip
    assert text.count("| retina_net | 0") == 2

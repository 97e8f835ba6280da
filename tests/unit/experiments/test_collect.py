"""Tables, differences and verdicts of made-up cells: every number was calculated by hand."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from boxel.experiments.cell import run_cell
from boxel.experiments.collect import collect_results
from boxel.experiments.grid import Claim
from boxel.experiments.tables import collect, figure, markdown
from tests.unit.experiments.made_up import made_up_grid, write_done, write_values

VALUES = {
    "retina_net/n=10/seed=0": 0.50, "retina_net/n=10/seed=1": 0.60, "retina_net/n=10/seed=2": 0.70,
    "retina_unet/n=10/seed=0": 0.60, "retina_unet/n=10/seed=1": 0.72, "retina_unet/n=10/seed=2": 0.80,
    "retina_net/n=20/seed=0": 0.80, "retina_net/n=20/seed=1": 0.82, "retina_net/n=20/seed=2": 0.84,
    "retina_unet/n=20/seed=0": 0.81, "retina_unet/n=20/seed=1": 0.83, "retina_unet/n=20/seed=2": 0.85,
}  # fmt: skip
UNET, NET = {"model": "retina_unet"}, {"model": "retina_net"}
HELPS = Claim(text="it helps", better=UNET, worse=NET)
CLAIMS = (
    HELPS,
    Claim(text="it helps much", better=UNET, worse=NET, where={"n": 10}, margin=0.2),
    Claim(text="less with more", better=UNET, worse=NET, where={"n": 10}, minus={"n": 20}, margin=0.05),
    Claim(text="no matter", better=UNET, worse=NET, where={"n": 20}, kind="equal"),
)


@pytest.fixture
def whole(tmp_path):
    grid = made_up_grid(claims=CLAIMS)
    write_values(tmp_path, grid, VALUES, spread=0.1)
    return grid, tmp_path


def test_rows_are_means_over_seeds_with_both_intervals(whole):
    rows = {(row.values["model"], row.values["n"]): row for row in collect_results(*whole).rows}
    assert list(rows) == [("retina_net", 10), ("retina_net", 20), ("retina_unet", 10), ("retina_unet", 20)]
    mean = rows["retina_net", 10].metrics["AP@0.10"]
    assert mean.value == pytest.approx(0.6)
    assert mean.num_seeds == rows["retina_net", 10].num_seeds == 3
    # Student's t with 2 degrees of freedom: 4.302653 x 0.1 / sqrt(3).
    assert mean.over_seeds == pytest.approx((0.6 - 0.248414, 0.6 + 0.248414), abs=1e-6)
    # 95 % of values spread evenly over 0.5 to 0.7.
    assert mean.over_patients == pytest.approx((0.505, 0.695), abs=1e-3)
    assert rows["retina_unet", 20].metrics["AP@0.10"].value == pytest.approx(0.83)
    assert rows["retina_net", 10].cost["seconds"] == 60
    assert rows["retina_net", 10].fold_means == {}


def test_differences_are_paired_with_the_reference_row_of_the_same_place(whole):
    rows = {(row.values["model"], row.values["n"]): row for row in collect_results(*whole).rows}
    assert rows["retina_net", 10].differences == rows["retina_net", 20].differences == {}
    few, many = (rows["retina_unet", n].differences["AP@0.10"] for n in (10, 20))
    # 0.10, 0.12, 0.10: standard deviation 0.011547, so that half the interval is 4.302653 / 150.
    assert few.value == pytest.approx(0.32 / 3)
    assert few.over_seeds == pytest.approx((0.32 / 3 - 0.028684, 0.32 / 3 + 0.028684), abs=1e-6)
    assert few.over_patients == pytest.approx((0.32 / 3, 0.32 / 3))  # the patients vary alike in both rows
    assert many.value == pytest.approx(0.01)
    assert many.over_seeds == pytest.approx((0.01, 0.01))


def test_claims_are_decided_at_every_place_that_they_leave_open(whole):
    decisions = collect_results(*whole).decisions
    assert [(one.claim.text, dict(one.where), one.verdict) for one in decisions] == [
        ("it helps", {"n": 10}, "holds"),
        ("it helps", {"n": 20}, "fails"),
        ("it helps much", {}, "fails"),
        # 0.09, 0.11, 0.09: 0.096667 +- 0.028684.
        ("less with more", {}, "holds"),
        ("no matter", {}, "holds"),
    ]
    change = decisions[3].estimate
    assert change.value == pytest.approx(0.29 / 3)
    assert change.over_seeds == pytest.approx((0.29 / 3 - 0.028684, 0.29 / 3 + 0.028684), abs=1e-6)


def write_chosen(monkeypatch, grid, out):
    """Let `collect` take `out` for the folder of a grid."""
    monkeypatch.setattr(
        "boxel.experiments.tables.read_chosen", lambda folder: type("Chosen", (), {"grid": lambda _: grid})()
    )


TABLE = """\
| model | n | seeds | AP@0.10 | AP@0.10, difference | s per cell | steps | s per step | parameters |
|---|---|---|---|---|---|---|---|---|
| RN | 10 | 3 of 3 | 0.600 [0.600, 0.600] (0.352, 0.848) |  | 60 | 700 | 0.080 | 1,000 |
| RN | 20 | 3 of 3 | 0.820 [0.820, 0.820] (0.770, 0.870) |  | 60 | 700 | 0.080 | 1,000 |
| retina_unet | 10 | 3 of 3 | 0.707 [0.707, 0.707] (0.457, 0.957) | +0.107 [+0.107, +0.107] (+0.078, +0.135) | 60 | 700 | 0.080 | 1,000 |
| retina_unet | 20 | 3 of 3 | 0.830 [0.830, 0.830] (0.780, 0.880) | +0.010 [+0.010, +0.010] (+0.010, +0.010) | 60 | 700 | 0.080 | 1,000 |

95 % intervals: [over patients] by bootstrap within the runs, (over seeds) by Student's t; differences are paired, to RN."""  # noqa: E501
DECIDED = """\
| claim | at | difference | margin | verdict |
|---|---|---|---|---|
| it helps | n 10 | AP@0.10 +0.107 [+0.107, +0.107] (+0.078, +0.135) | > 0.02 | holds |
| it helps | n 20 | AP@0.10 +0.010 [+0.010, +0.010] (+0.010, +0.010) | > 0.02 | fails |
| it helps much |  | AP@0.10 +0.107 [+0.107, +0.107] (+0.078, +0.135) | > 0.2 | fails |
| less with more |  | AP@0.10 +0.097 [+0.097, +0.097] (+0.068, +0.125) | > 0.05 | holds |
| no matter |  | AP@0.10 +0.010 [+0.010, +0.010] (+0.010, +0.010) | within 0.02 | holds |
"""


def test_the_files_hold_the_same_numbers(monkeypatch, tmp_path):
    grid = made_up_grid(claims=CLAIMS, labels={"retina_net": "RN"})
    write_values(tmp_path, grid, VALUES)
    write_chosen(monkeypatch, grid, tmp_path)
    collect(tmp_path)
    table = (tmp_path / "table.md").read_text()
    assert table.startswith(f"# Made up\n\n{TABLE}\n\n## Claims\n\n{DECIDED}")
    assert "Missing" not in table
    lines = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [(line["model"], line["n"], line["seeds"], line["metric"]) for line in lines] == [
        (model, n, "3", "AP@0.10") for model in ("retina_net", "retina_unet") for n in ("10", "20")
    ]
    assert float(lines[2]["value"]) == pytest.approx(2.12 / 3)
    assert float(lines[2]["seeds_low"]) == pytest.approx(0.4567, abs=1e-4)
    assert float(lines[2]["difference_value"]) == pytest.approx(0.32 / 3)
    assert float(lines[2]["difference_patients_high"]) == pytest.approx(0.32 / 3)
    assert lines[0]["difference_value"] == ""
    content = json.loads((tmp_path / "results.json").read_text())
    assert (content["experiment"], content["version"], content["missing"]) == ("made_up", 1, [])
    assert content["rows"][2]["values"] == {"model": "retina_unet", "n": 10}
    assert content["rows"][2]["differences"]["AP@0.10"]["value"] == pytest.approx(0.32 / 3)
    assert [one["verdict"] for one in content["claims"]] == ["holds", "fails", "fails", "holds", "holds"]
    assert content["claims"][0]["claim"]["margin"] == 0.02
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_missing_stands_in_the_table_with_the_reason(tmp_path):
    grid = made_up_grid(claims=(HELPS,))
    write_values(tmp_path, grid, {path: value for path, value in VALUES.items() if "unet/n=10" not in path})
    failed = grid.cell({"model": "retina_unet", "n": 10, "seed": 0})
    failed.save(tmp_path / "cells" / failed.name / "cell.json")
    (tmp_path / "cells" / failed.name / "error.txt").write_text("scan.nii.gz: damaged\n")
    write_values(tmp_path, grid, {"retina_unet/n=10/seed=1": VALUES["retina_unet/n=10/seed=1"]})
    results = collect_results(grid, tmp_path)
    text = markdown(results)
    assert (
        "## Missing\n\n- retina_unet/n=10/seed=0: failed: scan.nii.gz: damaged\n- retina_unet/n=10/seed=2: missing\n"
        in text
    )
    assert "| retina_unet | 10 | 1 of 3 | 0.720 [0.720, 0.720] | +0.120 [+0.120, +0.120] |" in text
    assert "| it helps | n 10 | AP@0.10 +0.120 [+0.120, +0.120] | > 0.02 | not resolved (1 of 3 seeds) |" in text
    assert "| n 20 | AP@0.10 +0.010 [+0.010, +0.010] (+0.010, +0.010) | > 0.02 | fails |" in text


def test_a_difference_takes_only_the_seeds_that_both_rows_have(tmp_path):
    grid = made_up_grid()
    write_values(tmp_path, grid, {path: VALUES[path] for path in VALUES if path != "retina_net/n=10/seed=1"})
    row = next(row for row in collect_results(grid, tmp_path).rows if row.values == {"model": "retina_unet", "n": 10})
    assert row.metrics["AP@0.10"].num_seeds == 3
    assert row.differences["AP@0.10"].num_seeds == 2
    assert row.differences["AP@0.10"].value == pytest.approx(0.1)


def test_nothing_finished_is_an_empty_table_and_no_figure(tmp_path):
    grid = made_up_grid(claims=(HELPS,))
    results = collect_results(grid, tmp_path)
    text = markdown(results)
    assert "| retina_net | 10 | 0 of 3 |  |  |" in text
    assert text.count(": missing") == 12
    assert text.count("not resolved (0 of 3 seeds)") == 2
    assert figure(results) is None


def test_a_claim_about_rows_that_the_grid_skips_is_left_out(tmp_path):
    grid = made_up_grid(claims=CLAIMS, skip=lambda values: values["model"] == "retina_unet" and values["n"] == 20)
    write_values(tmp_path, grid, {path: value for path, value in VALUES.items() if "unet/n=20" not in path})
    decisions = collect_results(grid, tmp_path).decisions
    assert [(one.claim.text, dict(one.where)) for one in decisions] == [("it helps", {"n": 10}), ("it helps much", {})]


def test_a_claim_about_a_baseline_waits_for_its_reference_row(tmp_path):
    claim = Claim(text="above the floor", better=NET, worse={"model": "floor"}, where={"n": 10})
    results = collect_results(made_up_grid(claims=(claim,), baselines={"floor": lambda *_: {}}), tmp_path)
    assert "| above the floor |  | AP@0.10 | > 0.02 | not resolved (0 of 3 seeds) |" in markdown(results)


def test_seeds_that_a_row_does_not_have_are_not_missing_in_its_claim(tmp_path):
    grid = made_up_grid(claims=(HELPS,), skip=lambda values: values["n"] == 20 and values["seed"] == 2)
    write_values(tmp_path, grid, {path: value for path, value in VALUES.items() if not path.endswith("n=20/seed=2")})
    text = markdown(collect_results(grid, tmp_path))
    assert "| retina_net | 20 | 2 of 2 |" in text
    assert "seeds)" not in text.split("## Claims")[1]


def test_an_undefined_metric_is_left_blank_and_is_null_in_json(monkeypatch, tmp_path):
    grid = made_up_grid(claims=(HELPS,))
    write_values(tmp_path, grid, VALUES)
    write_done(tmp_path, grid, {"model": "retina_unet", "n": 10, "seed": 0}, math.nan)
    write_chosen(monkeypatch, grid, tmp_path)
    results = collect(tmp_path)
    assert "| retina_unet | 10 | 3 of 3 |  |  |" in markdown(results)
    assert "| it helps | n 10 | AP@0.10 | > 0.02 | not resolved |" in markdown(results)

    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)
    assert content["rows"][2]["metrics"]["AP@0.10"]["value"] is None
    assert "nan" not in (tmp_path / "table.csv").read_text()


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other"])
def test_damaged_results_of_a_cell_are_an_error_with_its_file(tmp_path, damage):
    grid = made_up_grid()
    write_values(tmp_path, grid, VALUES)
    file = tmp_path / "cells" / grid.cell({"model": "retina_net", "n": 10, "seed": 0}).name / "resamples.npz"
    if damage == "other":
        np.savez(file, a=[1])
    else:
        file.write_bytes({"cut": file.read_bytes()[:-100], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(
        ValueError, match=rf"{file}: damaged .*; remove the folder {file.parent} and run the cell again"
    ):
        collect_results(grid, tmp_path)


def test_a_metric_of_a_class_that_the_data_do_not_have_is_left_out(tmp_path):
    claim = Claim(text="it helps", better=UNET, worse=NET, where={"n": 10}, metric="AP@0.10/cyst")
    grid = made_up_grid(claims=(claim,))
    write_values(tmp_path, grid, VALUES, spread=0.1)
    results = collect_results(replace(grid, metrics=("AP@0.10", claim.metric)), tmp_path)
    assert [list(row.metrics) for row in results.rows] == [["AP@0.10"]] * 4
    assert [decision.verdict for decision in results.decisions] == ["not resolved"]
    assert "cyst" in markdown(results)


def test_what_was_derived_from_a_cell_goes_when_it_is_carried_out_again(tmp_path):
    (tmp_path / "derived").mkdir()
    (tmp_path / "derived" / "metrics_test.json").write_text("{}")
    with pytest.raises(ValueError, match=r"cell\.json: no such file"):
        run_cell(tmp_path)
    assert not (tmp_path / "derived").exists()

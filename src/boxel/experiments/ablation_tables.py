"""The rows of an ablation of the consolidation, and their tables."""

from collections.abc import Mapping
from dataclasses import dataclass

from boxel.escaping import csv_lines, markdown_text
from boxel.experiments.statistics import Estimate, shown
from boxel.experiments.tables import line, made_by, numbers

SHOWN = ("AP@0.10", "AP@0.50")
METRICS = (*SHOWN, "mAP@0.10:0.50")


@dataclass(frozen=True)
class Combination:
    """A method and the views whose boxes it merges.

    Attributes:
        method: of `boxel.ConsolidateConfig`.
        views: the mirrored views, as `boxel consolidate --views` names them.
        checkpoints: the best so many of each run; None: all, where runs have different numbers of them.
        num_mirrors: number of mirrored views.
        num_views: number of views over all mirrored views, checkpoints and runs.
    """

    method: str
    views: str
    checkpoints: int | None
    num_mirrors: int
    num_views: int

    @property
    def name(self) -> str:
        return f"{self.method}_{self.views}_{self.checkpoints or 'all'}"


@dataclass(frozen=True)
class AblationRow:
    """The metrics of a combination, by name.

    Attributes:
        metrics: with 95 % intervals over patients.
        differences: to the reference, paired; empty for the reference itself.
        p_values: of paired permutation tests of these differences.
        corrected: these p values, corrected by Holm's method for the number of combinations.
        num_capped: number of images with more detections than `max_detections` keeps.
    """

    combination: Combination
    metrics: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    p_values: Mapping[str, float]
    corrected: Mapping[str, float]
    num_capped: int


@dataclass(frozen=True)
class Ablation:
    """All combinations, the reference first, and what could not be done."""

    rows: list[AblationRow]
    left_out: list[str]
    num_images: int
    num_groups: int


def markdown(results: Ablation) -> str:
    """The table, what is left out, and where it was made."""
    head = ["method", "mirrored views", "checkpoints", "views in all"]
    for name in SHOWN:
        head += [name, "difference", "p"]
    lines = ["# Consolidation: methods and views", "", line([*head, "images capped"]), "|" + "---|" * (len(head) + 1)]
    for row in results.rows:
        of = row.combination
        values = [of.method, str(of.num_mirrors), str(of.checkpoints or "all"), str(of.num_views)]
        for name in SHOWN:
            p = f"{row.corrected[name]:.3f}" if name in row.corrected else ""
            values += [shown(row.metrics[name]), shown(row.differences.get(name), "+"), p]
        lines.append(line([*values, str(row.num_capped)]))
    reference = results.rows[0].combination
    lines += [
        "",
        f"{results.num_images} images of {results.num_groups} patients. 95 % intervals are over patients, by "
        f"bootstrap; differences are paired, to {reference.method} with {reference.num_views} views; p values are of "
        f"paired permutation tests, corrected by Holm's method for {len(results.rows) - 1} combinations. That "
        "test presumes scores of one scale, and methods differ in theirs: go by the intervals where the two disagree. "
        "Checkpoints are the best ones of each run. Images are capped where `max_detections` left out detections with "
        "scores of 0.1 or more.",
    ]
    if results.left_out:
        lines += ["", "## Left out", "", *(f"- {markdown_text(reason)}" for reason in results.left_out)]
    return "\n".join([*lines, "", made_by(), ""])


def as_csv(results: Ablation) -> str:
    """One line per combination and metric."""
    columns = ("value", "low", "high")
    lines: list[list[object]] = [["method", "mirrored_views", "checkpoints", "views", "metric", *columns,
                     *(f"difference_{name}" for name in columns), "p", "p_holm", "images_capped"]]  # fmt: skip
    for row in results.rows:
        of = row.combination
        for name, value in row.metrics.items():
            lines.append([of.method, of.num_mirrors, of.checkpoints or "all", of.num_views, name,
                             *numbers(value)[:3], *numbers(row.differences.get(name))[:3], row.p_values.get(name, ""),
                             row.corrected.get(name, ""), row.num_capped])  # fmt: skip
    return csv_lines(lines)

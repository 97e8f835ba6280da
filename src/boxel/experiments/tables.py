"""The results of an experiment as Markdown for people, CSV and JSON for programs, and a figure."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from boxel.api.run import environment
from boxel.escaping import csv_lines, markdown_text
from boxel.experiments.collect import Decision, Results, Row, collect_results
from boxel.experiments.grid import Grid, Values
from boxel.experiments.registry import read_chosen
from boxel.experiments.statistics import Estimate, shown
from boxel.files import write_bytes, write_text

_COSTS = {
    "seconds": ("s per cell", "{:.0f}"),
    "steps": ("steps", "{:,.0f}"),
    "seconds_per_step": ("s per step", "{:.3f}"),
    "parameters": ("parameters", "{:,.0f}"),
}


def collect(out: Path | str) -> Results:
    """Write the tables of what is finished into `out`: `table.md`, `table.csv`, `results.json`, and their figures.

    Raises:
        ValueError: `out` holds no experiment, or folds that cannot be pooled.
    """
    out = Path(out)
    results = collect_results(read_chosen(out).grid(), out)
    write_text(out / "table.md", markdown(results))
    write_text(out / "table.csv", _csv(results))
    write_text(out / "results.json", json.dumps(_json(results), indent=2) + "\n")
    if chart := figure(results):
        write_bytes(out / "figure.png", chart)
    for table in results.derived:
        for name, picture in table.figures.items():
            write_bytes(out / "figures" / f"{name}.png", picture)
    return results


def markdown(results: Results) -> str:
    """The table, the claims with their verdicts, what is missing, and where it was made."""
    grid, rows = results.grid, results.rows
    costs = {key: entry for key, entry in _COSTS.items() if any(key in row.cost for row in rows)}
    folds = _has_folds(grid)
    head = [*grid.row_axes, "seeds"]
    for name in grid.metrics:
        head += [name, *([f"{name}, mean of folds"] if folds else [])]
        head += [f"{name}, difference"] if grid.reference else []
        head += [f"{name}, published"] if grid.published else []
    lines = [f"# {grid.about}", "", line([*head, *(title for title, _ in costs.values())])]
    lines.append("|" + "---|" * (len(head) + len(costs)))
    for row in rows:
        values = [*_names(grid, row.values), f"{_done(row)} of {row.num_seeds}"]
        for name in grid.metrics:
            values.append(shown(row.metrics.get(name)))
            values += [f"{row.fold_means[name]:.3f}" if name in row.fold_means else ""] if folds else []
            values += [shown(row.differences.get(name), sign="+")] if grid.reference else []
            values += [_published(grid, row, name)] if grid.published else []
        values += [form.format(row.cost[key]) if key in row.cost else "" for key, (_, form) in costs.items()]
        lines.append(line(values))
    lines += ["", _legend(grid)]
    if results.decisions:
        lines += [
            "",
            "## Claims",
            "",
            line(["claim", "at", "difference", "margin", "verdict"]),
            "|---|---|---|---|---|",
        ]
        lines += [_decision(grid, decision) for decision in results.decisions]
        lines += [
            "",
            "A claim holds if every interval is on its side of the margin, and fails if one is on the other. "
            "A single seed decides nothing.",
        ]
    for table in results.derived:
        lines += ["", f"## {table.title}", "", line(table.columns), "|" + "---|" * len(table.columns)]
        lines += [*map(line, table.rows), *(["", table.note] if table.note else [])]
        links = ", ".join(f"[{name.replace('_', ' ')}](figures/{name}.png)" for name in table.figures)
        lines += ["", f"Figures: {links}"] if links else []
    if results.missing:
        lines += ["", "## Missing", ""]
        notes = [f"{cell.path}: {cell.state}{': ' + cell.note if cell.note else ''}" for cell in results.missing]
        lines += [f"- {markdown_text(note)}" for note in notes]
    return "\n".join([*lines, "", made_by(), ""])


def _has_folds(grid: Grid) -> bool:
    return len(grid.axes.get("fold", ())) > 1


def line(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"


def _names(grid: Grid, values: Values) -> list[str]:
    return [markdown_text(grid.label(value)) for value in values.values()]


def _done(row: Row) -> int:
    return max((one.num_seeds for one in row.metrics.values()), default=0)


def _published(grid: Grid, row: Row, name: str) -> str:
    value = grid.published.get(tuple(row.values.values()), {}).get(name)
    return "" if value is None else f"{value:.3f}"


def _legend(grid: Grid) -> str:
    text = "95 % intervals: [over patients] by bootstrap within the runs"
    if len(grid.axes.get("seed", ())) > 1:
        text += ", (over seeds) by Student's t"
    if grid.reference:
        against = ", ".join(grid.label(value) for value in grid.reference.values())
        text += f"; differences are paired, to {against}"
    if _has_folds(grid):
        text += "; folds are pooled before they are evaluated"
    return text + "."


def _decision(grid: Grid, decision: Decision) -> str:
    claim, mean = decision.claim, decision.estimate
    where = ", ".join(f"{axis} {grid.label(value)}" for axis, value in decision.where.items())
    verdict: str = decision.verdict
    if mean is None or mean.num_seeds < decision.of_seeds:
        verdict += f" ({mean.num_seeds if mean else 0} of {decision.of_seeds} seeds)"
    sign = {"better": ">", "equal": "within", "not_worse": "> -"}[claim.kind]
    margin = f"{sign}{'' if claim.kind == 'not_worse' else ' '}{claim.margin:g}"
    return line([claim.text, where, f"{claim.metric} {shown(mean, sign='+')}".strip(), margin, verdict])


def made_by() -> str:
    where = environment(["boxel", "torch"])
    versions: Any = where["versions"]
    made_by = ", ".join(f"{package} {version}" for package, version in versions.items())
    return f"Collected on {where['platform']}, {where['cpus']} CPUs, GPU {where['gpu'] or 'none'}, {made_by}"


def _csv(results: Results) -> str:
    """One line per row and metric."""
    grid = results.grid
    ends = [f"{of}_{end}" for of in ("patients", "seeds") for end in ("low", "high")]
    columns = ["value", *ends]
    lines: list[list[object]] = [
        [*grid.row_axes, "seeds", "metric", *columns, *(f"difference_{name}" for name in columns)]
    ]
    for row in results.rows:
        for name, value in row.metrics.items():
            difference = numbers(row.differences.get(name))
            lines.append([*row.values.values(), value.num_seeds, name, *numbers(value), *difference])
    return csv_lines(lines)


def numbers(value: Estimate | None) -> list[float | str]:
    if value is None or not isfinite(value.value):
        return [""] * 5
    return [value.value, *(end for ends in value.intervals for end in (ends or ("", "")))]


def _json(results: Results) -> dict[str, Any]:
    content = {
        "experiment": results.grid.name,
        "version": results.grid.version,
        "rows": [asdict(row) for row in results.rows],
        "claims": [asdict(decision) | {"claim": decision.claim.to_dict()} for decision in results.decisions],
        "derived": [asdict(table) | {"figures": list(table.figures)} for table in results.derived],
        "missing": [{"cell": cell.path, "state": cell.state, "note": cell.note} for cell in results.missing],
        "environment": environment(),
    }
    return json.loads(json.dumps(content), parse_constant=lambda _: None)  # an undefined metric is null


def figure(results: Results) -> bytes | None:
    """The first metric over the first axis of numbers, a line per remaining row; None where no axis has numbers."""
    import numpy as np

    from boxel.reporting.charts import Axis, Chart, Line, share_axis
    from boxel.reporting.drawing import chart_png

    grid = results.grid
    numeric = [axis for axis in grid.row_axes if len(grid.axes[axis]) > 1 and isinstance(grid.axes[axis][0], int)]
    if not numeric:
        return None
    name, axis = grid.metrics[0], numeric[0]
    lines: dict[str, list[tuple[float, Estimate]]] = {}
    for row in results.rows:
        if name in row.metrics and isfinite(row.metrics[name].value):
            label = ", ".join(grid.label(value) for other, value in row.values.items() if other != axis)
            lines.setdefault(label, []).append((float(row.values[axis]), row.metrics[name]))
    if not lines:
        return None
    drawn = []
    for label, points in lines.items():
        bars = [(x, *ends) for x, value in points if (ends := value.over_seeds or value.over_patients)]
        x, y = np.array([x for x, _ in points]), np.array([value.value for _, value in points])
        drawn.append(Line(label, x, y, bars=bars))
    return chart_png(Chart(grid.about, Axis(axis), share_axis(name), drawn))

"""What the verbs show: progress bars on standard error, findings, tables and figures on standard output."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar per stage on standard error; where that is no terminal, only their last state is written.

    What the package logs meanwhile appears above the bars.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console) as bars:
        known: dict[str, Any] = {}

        def update(what: str, done: int, total: int) -> None:
            if what not in known:
                known[what] = bars.add_task(what, total=total)
            bars.update(known[what], completed=done, total=total)

        class Lines(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                console.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)

        handler, log = Lines(logging.INFO), logging.getLogger("boxel")
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        try:
            yield update
        finally:
            log.removeHandler(handler)


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """A line on standard error, without the place in the code."""
    print(f"boxel: warning: {message}", file=sys.stderr)


def plain(record: Any) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in vars(record).items()}


def print_findings(findings: list[Any]) -> None:
    for finding in findings:
        where = " ".join(str(part) for part in (finding.case, finding.file) if part)
        print(f"{finding.severity.upper()} {where}: {finding.problem}; {finding.remedy}")
    counts = {name: sum(f.severity == name for f in findings) for name in ("error", "warning", "note")}
    print(", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items()))


def print_table(title: str, rows: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, show_header=False, title_justify="left")
    for key, value in rows.items():
        table.add_row(key, str(value))
    Console().print(table)


def short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 90 else text[:87] + "..."


def print_metrics(metrics: dict[str, Any]) -> None:
    headline = ("AP@0.10", "AP@0.50", "mAP@0.10:0.50", "FROC@0.10", "patient_AP", "patient_AUROC",
                "CPM", "CPM/scans_with_nodules")  # fmt: skip
    rows: dict[str, str] = {}
    for name in headline:
        value = metrics.get(name)
        if name not in metrics:
            continue
        interval = metrics.get(f"{name}/ci95")
        text = "not defined" if value is None else f"{value:.3f}"
        rows[name] = text + (f"  (95 % interval {interval[0]:.3f} to {interval[1]:.3f})" if interval else "")
    rows |= {name: str(metrics[name]) for name in ("num_images", "num_objects", "num_detections") if name in metrics}
    if metrics.get("absent_classes"):
        rows["absent classes"] = ", ".join(metrics["absent_classes"])
    print_table("evaluation", rows)


def print_comparison(result: dict[str, Any]) -> None:
    """The figures over all classes, of both sets, their difference with interval, and p."""
    rows = {}
    for name, figure in result["figures"].items():
        if "/" in name or figure["ci95"] is None:
            continue
        low, high = figure["ci95"]
        rows[name] = (f"{figure['a']:.3f} -> {figure['b']:.3f}  ({figure['difference']:+.3f}, "
                      f"95 % interval {low:+.3f} to {high:+.3f}, p {figure['p']:.3f})")  # fmt: skip
    print_table("comparison, a -> b", rows)

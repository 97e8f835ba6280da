"""What the verbs print: warnings on standard error, findings, tables and metrics on standard output."""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

from boxel.escaping import printable
from boxel.wording import counted

MAX_CASE = 24  # characters
LONG_CASE = 200  # as many as the name of a file has at most


def say(text: object = "", *, file: TextIO | None = None, end: str = "\n") -> None:
    """Print a message, in which names steer no terminal; to standard output, unless another stream is given."""
    print(printable(text, lines=True), file=file, end=end)


def warned(text: object) -> str:
    """A warning, as it is printed on standard error."""
    return f"boxel: warning: {text}"


def say_of_patients(formats: Iterable[str]) -> None:
    """Say that objects in DICOM formats name the patient, as they must."""
    if any(name.startswith("dicom-") for name in formats):
        say("note: the DICOM objects keep the patient of their images (name, ID, birth date, sex)", file=sys.stderr)


def warning_lines() -> Callable[..., None]:
    """What shows each warning as a line on standard error, without the place in the code; the same text once."""
    shown: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in shown:
            say(warned(message), file=sys.stderr)
        shown.add(str(message))

    return show


def plain(record: Any) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in vars(record).items()}


def print_findings(findings: list[Any]) -> None:
    for finding in findings:
        case = finding.case if len(finding.case) <= LONG_CASE else f"{finding.case[:LONG_CASE]}..."
        where = " ".join(str(part) for part in (case, finding.file) if part)
        say(printable(f"{finding.severity}: {where}: {finding.problem}; {finding.suggested_fix}"))
    counts = {name: sum(f.severity == name for f in findings) for name in ("error", "warning", "note")}
    say(", ".join(counted(count, name) for name, count in counts.items()))


def print_cases(rows: list[dict[str, str]]) -> None:
    """What was taken for what, a line per case; no name is lost, since names are what the list is for."""
    if not rows:
        return
    lines = [list(rows[0]), *(list(map(printable, _cells(row))) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if any("*" in line[1] + line[2] for line in lines[1:]):
        say("(* is the name of the case)")


def _cells(row: dict[str, str]) -> list[str]:
    """The row, with `*` for the case in the names of its files if the case has a long name, such as a hash."""
    case = row["case"]
    is_long = len(case) > MAX_CASE
    return [v.replace(case, "*") if is_long and k in ("image", "annotation") else v for k, v in row.items()]


def print_table(title: str, rows: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, show_header=False, title_justify="left")
    for key, value in rows.items():
        table.add_row(key, Text(printable(value)))
    Console().print(table)


def print_plan(task: Any) -> None:
    """The plan in a table, and the reason for each choice."""
    print_table("plan", {key: short(value) for key, value in task.to_dict().items() if key != "why"})
    for choice, reason in task.why.items():
        say(f"  {choice}: {reason}")


def print_points(points: Any) -> None:
    """The operating points of each class, and how well its scores are calibrated, in a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from boxel.reporting.tables import points_table

    title = f"{counted(points.num_images, 'validation image')}, IoU ≥ {points.iou_threshold:.2f}"
    table, rows = Table(title=title), points_table(points)
    for number, column in enumerate(["class", *rows["columns"]]):
        table.add_column(column.replace(" ", "\n"), justify="left" if number < 2 else "right")  # 80 characters hold it
    for name, cells in rows["rows"]:
        table.add_row(Text(printable(name)), *(text.replace(", ", ",\n") for text, _ in cells))
    Console().print(table)


def short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 90 else text[:87] + "..."


def print_comparison(result: dict[str, Any], a: Path, b: Path) -> None:
    """The metrics over all classes of the predictions `a` and `b`, their difference with interval, and p."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "a", "b", "b - a", "95 % interval", "p", title="comparison", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, values in result["metrics"].items():
        if ("/" in name and name != "DSC/slices_with_object") or values["difference"] is None:
            continue
        interval = "{:+.3f} to {:+.3f}".format(*values["ci95"]) if values["ci95"] else "one patient"
        cells = (f"{values['a']:.3f}", f"{values['b']:.3f}", f"{values['difference']:+.3f}", interval)
        table.add_row(Text(printable(name)), *cells, f"{values['p']:.3f}")
    say(f"a: {a}\nb: {b}")
    Console().print(table)
    settings = result["settings"]
    say(f"{settings['num_resamples']} resamples and permutations of the patients (images where none are known), "
          f"seed {settings['seed']}")  # fmt: skip

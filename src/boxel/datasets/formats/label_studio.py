"""Label Studio's JSON and JSON-MIN exports of image labelling.

    project.json    [{"data": {"image": "/data/upload/1/0a1b2c3d-a.png"}, "annotations": [{"result": [
                      {"type": "rectanglelabels", "original_width": 60, "original_height": 40, "value":
                       {"x": 10, "y": 20, "width": 5, "height": 8, "rotation": 0, "rectanglelabels": ["cell"]}}]}]}]

Positions are percentages of the image. Rectangles give boxes; turned rectangles, ellipses and polygons give masks.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NotRequired
from urllib.parse import unquote

from typing_extensions import TypedDict

from boxel.datasets.cases import Dataset
from boxel.datasets.declared import declared_size
from boxel.datasets.formats.files import numbers
from boxel.datasets.formats.outlines import Entry, Options, Outlined, build, ellipse, left_out, rectangle, too_few
from boxel.datasets.formats.registry import register_format
from boxel.datasets.formats.text_kinds import text_kind, texts_in
from boxel.datasets.problems import InputError, Report, some
from boxel.inputs.json_values import Finite, check_shape
from boxel.inputs.texts import AGAIN, read_mapping
from boxel.wording import counted

__all__ = ["detect", "read"]

DESCRIPTION = 'Label Studio: a JSON list of tasks with "rectanglelabels", "polygonlabels" or "ellipselabels"'
KINDS = ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "keypointlabels")


def detect(path: Path) -> bool:
    return bool(texts_in(path, (".json",), _is_export))


@text_kind
def _is_export(text: str) -> bool:
    return text.lstrip()[:1] == "[" and any(f'"{kind}"' in text for kind in KINDS)


class _Result(TypedDict):
    type: NotRequired[str]
    value: NotRequired[dict[str, Any] | None]
    original_width: NotRequired[Finite | str | None]
    original_height: NotRequired[Finite | str | None]


class _Annotation(TypedDict):
    result: NotRequired[list[_Result] | None]


class _Task(TypedDict):
    data: NotRequired[dict[str, Any]]
    annotations: NotRequired[list[_Annotation] | None]
    completions: NotRequired[list[_Annotation] | None]


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder (or file) `path`; problems of single cases go to `report`."""
    entries = []
    for file in texts_in(path, (".json",), _is_export):
        tasks = read_mapping(file, report)
        tasks = check_shape(tasks, list[Any], file, AGAIN)
        for number, task in enumerate(tasks):
            check_shape(task, _Task, file, f"task {number}: {AGAIN}")
        bare = [number for number, task in enumerate(tasks) if not _is_annotated(task)]
        if bare:
            problem = f"{counted(len(bare), 'task is', 'tasks are')} not annotated and not used: {some(map(str, bare))}"
            report(InputError(file, problem, "submit an annotation, which may be empty", severity="warning"))
        for number, task in enumerate(tasks):
            if number in bare:
                continue
            try:
                entries.append(_entry(file, number, task, report))
            except InputError as problem:
                report(problem.of(f"task {number}"))
    return build(path, entries, options, report)


def _finished(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The annotations of a task that were submitted, not skipped."""
    return [one for one in task.get("annotations") or task.get("completions") or () if not one.get("was_cancelled")]


def _is_annotated(task: Any) -> bool:
    """Whether somebody has submitted an annotation; JSON-MIN, which has no "data", has only such tasks."""
    whole = isinstance(task, dict) and (
        "annotations" in task or "completions" in task or isinstance(task.get("data"), dict)
    )
    return not whole or bool(_finished(task))


def _entry(file: Path, number: int, task: Any, report: Report) -> Entry:
    data = task.get("data", task) if isinstance(task, dict) else {}
    source = next((data[key] for key in ("image", "img", *data) if isinstance(data.get(key), str)), "")
    name = re.sub(r"^.*[?&]d=", "", unquote(source))
    if "/upload/" in name:  # an upload gets a random prefix
        name = re.sub(r"^[0-9a-f]{8}-", "", name.rpartition("/")[2])
    name = re.sub(r"^\w+://[^/]*/", "", name)
    results = list(_results(file, name, task, report))
    sizes = {(entry.get("original_height"), entry.get("original_width")) for entry in results}
    if len(sizes) > 1:
        listed = some(f"{rows} x {columns}" for rows, columns in sizes)
        raise InputError(file, f"task {number}: several image sizes: {listed}", "export it again")
    declared = declared_size(*(sizes.pop() if sizes else (None, None)), file, name)
    objects = [made for entry in results if (made := _object(file, name, entry, report))]
    return Entry(name, file, objects, declared)


def _results(file: Path, name: str, task: Mapping[str, Any], report: Report) -> Iterator[Mapping[str, Any]]:
    """The regions of a task, each with "value", its kind and the size of the image."""
    if "annotations" not in task and "completions" not in task:  # JSON-MIN: lists of values under their controls
        for control in task.values():
            for value in control if isinstance(control, list) else ():
                if isinstance(value, dict) and any(kind in value for kind in KINDS):
                    yield {**value, "value": value, "type": next(kind for kind in KINDS if kind in value)}
        return
    finished = _finished(task)
    if len(finished) > 1:
        problem = f"{name} has {len(finished)} annotations; the first is used"
        report(InputError(file, problem, "keep one per task, or review them", severity="warning"))
    yield from (entry for one in finished[:1] for entry in one.get("result") or () if entry.get("type") in KINDS)


def _object(file: Path, name: str, entry: Mapping[str, Any], report: Report) -> Outlined | None:
    kind, value = entry["type"], entry.get("value") or {}
    if entry.get("image_rotation"):
        problem = f"an object of {name} was drawn on the image turned by {str(entry['image_rotation'])[:20]} degrees"
        raise InputError(file, problem, "turn the image back in Label Studio, draw again and export again")

    def get_list(key: str) -> list[Any]:
        return check_shape(value.get(key) or [], list[Any], file, f"{name}: {AGAIN}")

    label, *others = [str(label).strip() for label in get_list(kind)] or [""]
    if not label:
        raise InputError(file, f"an object of {name} has no label", "choose its class")
    if others:
        region = f"region {entry['id']}" if entry.get("id") else "a region"
        problem = f"{region} of {name} has the labels {' and '.join((label, *others))}"
        raise InputError(file, problem, "choose one, or draw a region for each")
    if kind == "brushlabels":
        raise InputError(file, f"{name} has brush masks, which are not read", "export the project as COCO")
    if kind == "keypointlabels":
        report(left_out(file, 1, "keypoint"))
        return None
    size = numbers([entry.get("original_width"), entry.get("original_height")], file, f"size of {name}", 2)
    step_x, step_y = size[0] / 100, size[1] / 100

    def get(*keys: str) -> tuple[float, ...]:
        return numbers([value.get(key) for key in keys], file, f"{kind} of {name}")

    (degrees,) = numbers([value.get("rotation") or 0], file, f"rotation of {name}")
    box: tuple[float, float, float, float] | None = None
    outlines: tuple[tuple[float, ...], ...] = ()
    if kind == "rectanglelabels":
        x, y, width, height = get("x", "y", "width", "height")
        x, y, width, height = x * step_x, y * step_y, width * step_x, height * step_y
        if degrees:
            outlines = (rectangle(x, y, width, height, degrees, (x, y)),)
        else:
            box = (x, y, width, height)
    elif kind == "ellipselabels":
        x, y, rx, ry = get("x", "y", "radiusX", "radiusY")
        outlines = (ellipse(x * step_x, y * step_y, rx * step_x, ry * step_y, degrees),)
    else:
        pairs = [numbers(pair, file, f"{kind} of {name}", 2) for pair in get_list("points")]
        if len(pairs) < 3:
            report(too_few(file, f"a polygon of {name}", Path(name).stem))
            return None
        outlines = (tuple(part for x, y in pairs for part in (x * step_x, y * step_y)),)
    return Outlined(label, box, outlines)


register_format("label_studio", detect, read, DESCRIPTION, Options, order=96)

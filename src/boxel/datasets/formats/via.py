"""VGG Image Annotator: a project or its annotations as JSON, or exported as CSV.

    via_project.json    {"_via_img_metadata": {"a.png1234": {"filename": "a.png", "regions": [
                         {"shape_attributes": {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4},
                          "region_attributes": {"type": "cell"}}]}}}
    via_region_data.json    the inner mapping alone, in which regions may also be numbered
    via_export_csv.csv      filename, ..., region_shape_attributes, region_attributes

Rectangles give boxes; circles, ellipses and polygons give instance masks.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from boxel.datasets.cases import Dataset
from boxel.datasets.formats import outlines
from boxel.datasets.formats.files import numbers
from boxel.datasets.formats.outlines import Entry, Outlined, build, ellipse, left_out, too_few
from boxel.datasets.formats.registry import register_format
from boxel.datasets.formats.text_kinds import text_kind, texts_in
from boxel.datasets.problems import InputError, Report
from boxel.inputs.json_values import check_shape, parse_json
from boxel.inputs.tables import read_table
from boxel.inputs.texts import AGAIN, read_mapping

__all__ = ["Options", "detect", "read"]

DESCRIPTION = 'VGG Image Annotator: a JSON or CSV with "region_attributes"'
KEYS = ("filename", "region_attributes", "shape_attributes")


class Options(outlines.Options):
    """Settings of the reader.

    Attributes:
        attribute: the region attribute that is the class; needed if regions have several.
    """

    attribute: str = ""


def detect(path: Path) -> bool:
    return bool(texts_in(path, (".json", ".csv"), _is_via))


@text_kind
def _is_via(text: str) -> bool:
    return all(key in text for key in KEYS)


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder (or file) `path`; problems of single cases go to `report`."""
    files = texts_in(path, (".json", ".csv"), _is_via)
    if not files:
        raise InputError(path, "no annotations of the VGG Image Annotator", "export the annotations as JSON or CSV")
    if len(files) > 1 and {file.suffix for file in files} == {".json", ".csv"}:  # one annotation, exported twice
        files = [file for file in files if file.suffix == ".json"]
    entries = []
    for file in files:
        images = list(_regions(file, report))
        named = any(_attributes(region) for _, regions in images for region in regions)
        for name, regions in images:
            try:
                bare = [number for number, region in enumerate(regions) if named and not _attributes(region)]
                if bare:
                    problem = f"region {bare[0]} of {name} has no class, but others have"
                    raise InputError(file, problem, "fill in its attribute")
                drawn = [_object(file, name, number, region, options, report) for number, region in enumerate(regions)]
                objects = [made for made in drawn if made]
                entries.append(Entry(name, file, objects))
            except InputError as problem:
                report(problem.of(Path(name).stem))
    return build(path, entries, options, report)


class _Region(TypedDict):
    shape_attributes: NotRequired[dict[str, Any] | None]
    region_attributes: NotRequired[dict[str, Any] | None]


def _regions(file: Path, report: Report) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """The name of every image with its regions."""
    if file.suffix.lower() == ".csv":
        rows: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for row in read_table(file, ("filename", "region_shape_attributes"), report):
            shape = _json(file, row.line, row["region_shape_attributes"])
            region = {"shape_attributes": shape, "region_attributes": _json(file, row.line, row["region_attributes"])}
            rows[row["filename"]] += [region] if shape else []
        yield from rows.items()
        return
    values = read_mapping(file, report)
    images = values.get("_via_img_metadata", values) if isinstance(values, dict) else {}
    for entry in images.values():
        if not isinstance(entry, dict) or not isinstance(entry.get("filename"), str):
            raise InputError(file, f"an image is {str(entry)[:80]}", "export the annotations again")
        regions = entry.get("regions") or []
        regions = list(regions.values()) if isinstance(regions, dict) else regions
        check_shape(regions, list[_Region], file, f"{entry['filename']}: {AGAIN}")
        yield entry["filename"], regions


def _json(file: Path, line: int, text: str) -> dict[str, Any]:
    try:
        return parse_json(text or "{}", file, dict[str, Any])
    except InputError as error:
        raise InputError(file, f"line {line}: {error.problem}", "export the annotations again") from None


def _object(
    file: Path, name: str, number: int, region: Mapping[str, Any], options: Options, report: Report
) -> Outlined | None:
    shape, known = region.get("shape_attributes") or {}, region.get("region_attributes") or {}
    label = _class(file, f"region {number} of {name}", known, _attributes(region), options)
    kind = shape.get("name")

    def get(*keys: str) -> tuple[float, ...]:
        return numbers([shape.get(key) for key in keys], file, f"{kind} of {name}")

    if kind == "rect":
        x, y, width, height = get("x", "y", "width", "height")
        return Outlined(label, (x, y, width, height))
    if kind == "circle":
        x, y, radius = get("cx", "cy", "r")
        return Outlined(label, None, (ellipse(x, y, radius, radius),))
    if kind == "ellipse":
        x, y, rx, ry = get("cx", "cy", "rx", "ry")
        (turn,) = numbers([shape.get("theta") or 0], file, f"theta of {name}")  # radians
        return Outlined(label, None, (ellipse(x, y, rx, ry, turn * 180 / 3.141592653589793),))
    if kind == "polygon":
        xs = numbers(shape.get("all_points_x") or (), file, f"polygon of {name}")
        ys = numbers(shape.get("all_points_y") or (), file, f"polygon of {name}", len(xs))
        if len(xs) < 3:
            report(too_few(file, f"a polygon of {name}", Path(name).stem))
            return None
        return Outlined(label, None, (tuple(value for pair in zip(xs, ys, strict=True) for value in pair),))
    if kind in ("point", "polyline", "line"):
        report(left_out(file, 1, kind))
        return None
    raise InputError(file, f"a region of {name} is {str(shape)[:80]}", "draw it again")


def _attributes(region: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a region that are filled in."""
    known = region.get("region_attributes") or {}
    plain = {key: value.strip() if isinstance(value, str) else value for key, value in known.items()}
    return {
        key: value
        for key, value in plain.items()
        if (any(value.values()) if isinstance(value, dict) else value not in ("", None))
    }


def _class(file: Path, where: str, known: Mapping[str, Any], attributes: Mapping[str, Any], options: Options) -> str:
    if options.attribute:
        if options.attribute not in attributes:
            problem = f"{where} has no attribute {options.attribute!r}"
            raise InputError(file, problem, f"it has {', '.join(known) or 'none'}: fill it in, or choose another")
        value = attributes[options.attribute]
    elif len(attributes) > 1:
        problem = f"{where} has the attributes {', '.join(attributes)}"
        raise InputError(file, problem, "say which is the class, such as --option attribute=type")
    else:
        value = next(iter(attributes.values()), "object")
    if isinstance(value, dict):  # a checkbox: {"cell": true}
        value, *others = [str(key).strip() for key, checked in value.items() if checked]
        if others:
            problem = f"{where} has the classes {' and '.join((value, *others))}"
            raise InputError(file, problem, "choose one, or draw a region for each")
    return str(value)


register_format("via", detect, read, DESCRIPTION, Options, order=94)

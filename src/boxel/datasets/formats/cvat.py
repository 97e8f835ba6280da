"""CVAT for images: one XML for all pictures.

    annotations.xml    <image name="a.png" width="60" height="40" subset="train">
                         <box label="cell" xtl="1" ytl="2" xbr="4" ybr="6" rotation="0"/>
                         <polygon label="cell" points="1,2;4,2;4,6"/> <ellipse .../> <mask .../>
    images/a.png       the pictures, anywhere below

Boxes are boxes, turned boxes, polygons, ellipses and masks give instance masks.
"""

from collections import defaultdict
from pathlib import Path
from xml.etree.ElementTree import Element

from boxel.datasets.cases import Dataset
from boxel.datasets.declared import declared_size
from boxel.datasets.formats.files import numbers
from boxel.datasets.formats.outlines import Entry, Options, Outlined, build, ellipse, left_out, rectangle, too_few
from boxel.datasets.formats.registry import register_format
from boxel.datasets.formats.text_kinds import text_kind, texts_in
from boxel.datasets.names import split_word
from boxel.datasets.problems import InputError, Report, Severity, some
from boxel.inputs.texts import read_xml

__all__ = ["detect", "read"]

DESCRIPTION = "CVAT for images: an XML with <annotations> and <image>"
NO_AREA = ("points", "polyline", "skeleton", "cuboid")
DRAWN = ("box", "ellipse", "polygon", "mask")


def detect(path: Path) -> bool:
    return bool(texts_in(path, (".xml",), _is_cvat))


@text_kind
def _is_cvat(text: str) -> bool:
    return "<annotations" in text[:4000] and "<version>" in text[:4000]


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder (or file) `path`; problems of single cases go to `report`."""
    entries = []
    strange: dict[tuple[Path, str], list[str]] = defaultdict(list)
    for file in texts_in(path, (".xml",), _is_cvat):
        root = read_xml(file)
        if root.find("track") is not None:
            raise InputError(file, "has tracks of a video", 'export it as "CVAT for images"')
        for node in root.iter("image"):
            name = node.get("name") or ""
            try:
                objects = [made for child in node if (made := _object(file, name, child, report))]
                size = declared_size(node.get("height"), node.get("width"), file, name)
            except InputError as problem:
                report(problem.of(Path(name).stem))
                continue
            subset = (node.get("subset") or "").strip()
            part = split_word(subset)
            if not part and subset.lower() not in ("", "default"):
                strange[file, subset].append(name)
            entries.append(Entry(name, file, objects, size, part))
    severity: Severity = "error" if any(entry.part for entry in entries) else "warning"
    for (file, subset), names in strange.items():
        unknown = f"the subset {subset!r} is none of train, validation and test: {some(names)}"
        fix = "rename it, or remove it if these are training images"
        report(InputError(file, unknown, fix, severity=severity))
    return build(path, entries, options, report)


def _object(file: Path, name: str, node: Element, report: Report) -> Outlined | None:
    label, what = (node.get("label") or "").strip(), f"{node.tag} of {name}"

    def get(*keys: str) -> tuple[float, ...]:
        return numbers([node.get(key) for key in keys], file, what)

    if not label and node.tag in DRAWN:
        raise InputError(file, f"a {what} has no label", "choose its class and export it again")
    degrees = float(node.get("rotation") or 0)
    if node.tag == "box":
        x, y, x1, y1 = get("xtl", "ytl", "xbr", "ybr")
        if not degrees:
            return Outlined(label, (x, y, x1 - x, y1 - y))
        corners = rectangle(x, y, x1 - x, y1 - y, degrees, ((x + x1) / 2, (y + y1) / 2))
        return Outlined(label, None, (corners,))
    if node.tag == "ellipse":
        x, y, rx, ry = get("cx", "cy", "rx", "ry")
        return Outlined(label, None, (ellipse(x, y, rx, ry, degrees),))
    if node.tag == "polygon":
        points = numbers(node.get("points") or "", file, what)
        if len(points) % 2:
            raise InputError(file, f"{what} has an odd number of coordinates", "draw it again")
        if len(points) < 6:
            report(too_few(file, what, Path(name).stem))
            return None
        return Outlined(label, None, (points,))
    if node.tag == "mask":
        return Outlined(label, None, _runs(file, what, node))
    if node.tag in NO_AREA:
        report(left_out(file, 1, node.tag))
    return None


def _runs(file: Path, what: str, node: Element) -> tuple[tuple[float, ...], ...]:
    """The rectangles of a mask: run lengths of background and foreground along the rows of its box."""
    left, top, width, height = numbers([node.get(key) for key in ("left", "top", "width", "height")], file, what)
    lengths = numbers(node.get("rle") or "", file, what)
    if sum(lengths) != width * height or width <= 0:
        raise InputError(file, f"{what}: {sum(lengths):g} pixels in a box of {width:g} x {height:g}", "export it again")
    parts, position = [], 0
    for index, length in enumerate(map(int, lengths)):
        end = position + length
        while index % 2 and position < end:  # up to the end of the row
            row, column = divmod(position, int(width))
            stop = min(end - position, int(width) - column)
            x, y = left + column, top + row
            parts.append((x, y, x + stop, y, x + stop, y + 1, x, y + 1))
            position += stop
        position = end
    return tuple(parts)


register_format("cvat", detect, read, DESCRIPTION, Options, order=48)

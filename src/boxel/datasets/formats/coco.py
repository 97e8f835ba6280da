"""COCO: one JSON with `images`, `annotations` (box `[x, y, width, height]`, polygons or RLE) and `categories`.

    annotations.json, instances_train2017.json, annotations/*.json ... or the file itself
    train/_annotations.coco.json, valid/..., test/...    as Roboflow exports it
    pictures           under their `file_name`, which is relative to the JSON, the data set or its folder of images;
                       they may be DICOM files of one frame each

Crowds (`iscrowd`) are ignored regions (`--option crowd=objects` reads them as objects), and objects with `ignore` are
ignored objects. A file or folder with the word "test" in its name holds the test cases, one with "val" or "valid" the
validation cases. Categories of several files are the same if their names are.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from boxel.datasets.cases import Case, Dataset
from boxel.datasets.declared import FLAGS, declared_size, flag, report_scores
from boxel.datasets.formats.coco_boxes import plain_box
from boxel.datasets.formats.files import numbers, pictures_layout, report_bare_parts
from boxel.datasets.formats.options import ImageOptions
from boxel.datasets.formats.radiographs import RadiographOpener
from boxel.datasets.formats.registry import register_format
from boxel.datasets.formats.text_kinds import text_kind, texts_of_kind
from boxel.datasets.lookup import DICOM, Lookup, root_of
from boxel.datasets.names import as_id, below, case_ids, split_word
from boxel.datasets.polygons import AS_SIDES, CocoMasks, CocoObject, IgnoredObject, contradiction, fits_as_corners
from boxel.datasets.problems import InputError, Report, some
from boxel.inputs.folders import listing
from boxel.inputs.texts import read_mapping
from boxel.wording import counted

__all__ = ["Options", "detect", "read"]

DESCRIPTION = 'COCO: a JSON with "images", "annotations" and "categories"'
KEYS = ("images", "annotations", "categories")


class Options(ImageOptions):
    """Settings of the reader.

    Attributes:
        crowd: crowds are ignored regions, or objects like the others, as where CVAT exported masks.
    """

    crowd: Literal["ignore", "objects"] = "ignore"


def detect(path: Path) -> bool:
    return bool(_files(path))


def _files(path: Path) -> list[Path]:
    """The COCO files of a folder: in it, in `annotations`, or in the folder of each part, as Roboflow exports them."""
    places = [path] if path.is_file() else [*listing(path), *listing(path / "annotations")]
    files = texts_of_kind(places, (".json",), _is_coco)
    parts = [] if files else [folder for folder in listing(path) if folder.is_dir() and split_word(folder.name)]
    return files or texts_of_kind((file for folder in parts for file in listing(folder)), (".json",), _is_coco)


@text_kind
def _is_coco(text: str) -> bool:
    return text.lstrip()[:1] == "{" and all(f'"{key}"' in text for key in KEYS)


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder (or file) `path`; problems of single cases go to `report`."""
    files = _files(path) or [path]
    if files == [path] and path.is_dir():
        raise InputError(path, "no COCO file", f"add one: {DESCRIPTION.partition(': ')[2]}")
    root = root_of(path)
    contents = {file: _content(file, report) for file in files}
    names = {file: _categories(file, values) for file, values in contents.items()}
    for name in _placeholders(contents.values()):
        report(InputError(root, f"category {name!r} only groups the others and is no class (Roboflow)",
                          "annotate objects of it if it is one", severity="note"))  # fmt: skip
        names = {file: {n: own for n, own in known.items() if own != name} for file, known in names.items()}
    classes = _classes(names.values())
    lookup = Lookup(root, report, options.images)
    entries: list[_Entry] = []
    for file, values in contents.items():
        part = split_word(file.stem) or split_word(file.parent.name if file.parent != root else "") or "train"
        labels = {number: classes.index(name) for number, name in names[file].items()}
        entries += _entries(file, values, labels, part, lookup, report)
        _report_areas(file, values, report)
        scores = (one.get("score") for one in values["annotations"] if isinstance(one, dict))
        report_scores((score for score in scores if score is not None), file, "the annotations have a score", report)
        if options.crowd == "ignore":
            _report_crowds(file, values, report)
    lookup.report_unused()
    listed: dict[Path, list[_Entry]] = defaultdict(list)
    for entry in entries:
        listed[entry.image].append(entry)
    cases, parts, counts = [], defaultdict(list), defaultdict(list)
    ids = dict(zip(listed, case_ids(list(listed), root), strict=True))
    for entry in entries:
        case = ids[entry.image]
        if len(listed[entry.image]) > 1:
            others = some(str(other.file) for other in listed[entry.image])
            twice = f"image {entry.image.name} is listed more than once, in {others}"
            report(InputError(entry.file, twice, "list it once, with all its annotations", case))
            continue
        try:
            objects = [
                made
                for one in entry.objects
                if (made := plain_box(one, entry.labels) or _object(entry, case, one, report, options))
            ]
        except InputError as problem:
            report(problem.of(case))
            continue
        split = "test" if entry.part == "test" else "train"
        opener = RadiographOpener() if entry.image.suffix.lower() in DICOM else None
        cases.append(Case(case, (entry.image,), split=split, annotation=entry.file, annotate=CocoMasks(tuple(objects)),
                          opener=opener, declared=entry.declared))  # fmt: skip
        parts[entry.part].append(case)
        counts[str(below(entry.file, root))].append(len(objects))
    report_bare_parts(counts, root, report)
    folds = ({part: tuple(ids) for part, ids in parts.items()},) if parts["train"] and parts["val"] else None
    ndim, channels = pictures_layout(case.channels[0] for case in cases)
    ndim = 2 if any(case.opener for case in cases) else ndim
    return Dataset(path, root.resolve().name, ndim, classes, channels, tuple(cases), folds)


def _report_areas(file: Path, values: Mapping[str, Any], report: Report) -> None:
    """Say which boxes have the area 0, which hides whether they are `[x1, y1, x2, y2]`."""
    flat = [
        one.get("id")
        for one in values["annotations"]
        if isinstance(one, dict) and one.get("area") == 0 and one.get("bbox") and not one.get("segmentation")
    ]
    if flat:
        problem = f"the area of objects with a bbox is 0: {some(map(str, flat))}"
        fix = f"write their areas, by which COCO metrics sort them, and {AS_SIDES}"
        report(InputError(file, problem, fix, severity="warning"))


def _report_crowds(file: Path, values: Mapping[str, Any], report: Report) -> None:
    """Say how many objects are crowds, which CVAT makes of every mask."""
    flags = Counter([str(one.get("iscrowd")) for one in values["annotations"] if isinstance(one, dict)])
    crowds = sum(count for text, count in flags.items() if FLAGS.get(text.strip().lower(), False))
    if crowds:
        named = counted(crowds, "object has", "objects have")
        problem = f"{named} iscrowd=1 (of {flags.total()}): ignored regions, which are neither trained on nor scored"
        fix = "if they are single objects (CVAT exports every mask so), give --option crowd=objects"
        report(InputError(file, problem, fix, severity="warning"))


class _Entry(NamedTuple):
    """One image of a file, with its annotations."""

    file: Path
    image: Path
    objects: Sequence[Mapping[str, Any]]
    labels: Mapping[int | str, int]
    part: str
    declared: tuple[int | None, ...] | None


def _content(file: Path, report: Report) -> Mapping[str, Any]:
    values = read_mapping(file, report)
    for key in KEYS:
        if not isinstance(values, dict) or not isinstance(values.get(key), list):
            raise InputError(file, f'"{key}" is not a list', f"a COCO file has the lists {', '.join(KEYS)}")
    return values


def _categories(file: Path, values: Mapping[str, Any]) -> dict[int | str, str]:
    """The names of a file's categories by their ids; every file numbers them as it likes."""
    names: dict[int | str, str] = {}
    for entry in values["categories"]:
        number = as_id(entry.get("id")) if isinstance(entry, dict) else None
        if number is None or "name" not in entry:
            raise InputError(file, f"category {str(entry)[:80]}", 'write {"id": 1, "name": "cell"}')
        if names.setdefault(number, str(entry["name"]).strip()) != str(entry["name"]).strip():
            problem = f"two categories have the id {number}: {names[number]} and {entry['name']}"
            raise InputError(file, problem, "give each its own id")
    return names


def _placeholders(contents: Collection[Mapping[str, Any]]) -> set[str]:
    """Categories without annotation that are, in every file, the supercategory of all the others."""
    chosen: list[set[str]] = []
    for values in contents:
        above = {str(entry["name"]).strip(): str(entry.get("supercategory") or "") for entry in values["categories"]}
        chosen.append({name for name, top in above.items() if top in ("", "none") and len(above) > 1
                       and all(other == name for own, other in above.items() if own != name)})  # fmt: skip
    found = set.intersection(*chosen) if chosen else set()
    return found - {name for values in contents for name in _used(values)} if found else found


def _used(values: Mapping[str, Any]) -> set[str]:
    """The names of the categories that have an annotation."""
    name_of = {as_id(entry["id"]): str(entry["name"]).strip() for entry in values["categories"]}
    return {name_of.get(as_id(one.get("category_id")), "") for one in values["annotations"] if isinstance(one, dict)}


def _classes(named: Iterable[Mapping[int | str, str]]) -> tuple[str, ...]:
    """The names of all files in the order of their ids, which the first file decides."""
    known: dict[str, None] = {}
    for names in named:
        known |= dict.fromkeys(
            name for _, name in sorted(names.items(), key=lambda item: (str(type(item[0])), item[0]))
        )
    return tuple(known)


def _entries(
    file: Path, values: Mapping[str, Any], labels: Mapping[int | str, int], part: str, lookup: Lookup, report: Report
) -> Iterator[_Entry]:
    """The images of a file with their annotations."""
    objects_of: dict[int | str | None, list[Any]] = defaultdict(list)
    for entry in values["annotations"]:
        objects_of[as_id(entry.get("image_id")) if isinstance(entry, dict) else None].append(entry)
    listed: dict[int | str, str] = {}
    for entry in values["images"]:
        name = str(entry.get("file_name") or "") if isinstance(entry, dict) else ""
        try:
            number = as_id(entry.get("id")) if name else None
            if number is None:
                problem = f"image {name!r} has the id {str(entry.get('id') if name else entry)[:80]}"
                raise InputError(file, problem, "give every image a name and a number")
            if listed.setdefault(number, name) != name:
                problem = f"images {listed[number]!r} and {name!r} have the same id {number}"
                raise InputError(file, problem, "give each its own id")
            objects = objects_of.pop(number, [])
            image = lookup.find(name, file)
            declared = declared_size(entry.get("height"), entry.get("width"), file, name)
            yield _Entry(file, image, objects, labels, part, declared)
        except InputError as problem:
            report(problem.of(Path(name).stem))
    if objects_of:
        count = sum(map(len, objects_of.values()))
        unknown = some(str(number) for number in objects_of)
        text = f"{count} annotations refer to the images {unknown}, which are not listed"
        report(InputError(file, text, f"list these images, or correct image_id; listed are {some(map(str, listed))}"))


def _object(image: _Entry, case: str, entry: Mapping[str, Any], report: Report, options: Options) -> CocoObject | None:
    file, number, category = image.file, entry.get("id"), as_id(entry.get("category_id"))
    if category is None or category not in image.labels:
        problem = f"object {number}: unknown category {str(entry.get('category_id'))[:80]}"
        raise InputError(file, problem, f"use one of {some(map(str, image.labels))}, or add it to categories")
    drawn = entry.get("segmentation") or ()
    if not isinstance(drawn, dict | list | tuple):
        raise InputError(file, f"object {number}: segmentation {str(drawn)[:80]}", "write polygons or run lengths")
    rle: tuple[Any, ...] = ()
    polygons: tuple[tuple[float, ...], ...] = ()
    if isinstance(drawn, dict):
        counts = drawn.get("counts")
        rle = (counts if isinstance(counts, str) else numbers(counts, file, f"counts of object {number}"),)
        rle += (tuple(map(int, numbers(drawn.get("size"), file, f"size of object {number}", 2))),)
    else:
        drawn = [numbers(polygon, file, f"polygon of object {number}") for polygon in drawn]
        polygons = tuple(polygon for polygon in drawn if len(polygon) % 2 == 0 and len(polygon) >= 6)
        if len(polygons) < len(drawn):
            problem = f"object {number}: a polygon has an odd number of coordinates, or fewer than 6"
            corners = drawn[0] if len(drawn) == 1 and len(drawn[0]) == 4 else None
            if entry.get("bbox") is None and corners:
                x0, x1, y0, y1 = *sorted(corners[::2]), *sorted(corners[1::2])
                entry = {**entry, "bbox": [x0, y0, x1 - x0, y1 - y0]}
            if entry.get("bbox") is None:
                raise InputError(file, problem, "draw it again")
            report(InputError(file, f"{problem}; it is left out", "draw it again", case, "warning"))
            drawn = polygons
    if entry.get("bbox") is None and not drawn:
        raise InputError(
            file, f"object {number} has neither bbox nor segmentation", 'write "bbox": [x, y, width, height]'
        )
    box = None if entry.get("bbox") is None else numbers(entry["bbox"], file, f"bbox of object {number}", 4)
    if box is not None and not drawn and (box[2] <= 0 or box[3] <= 0):
        problem = f"bbox {list(box)} of object {number} has no extent; the object is left out"
        report(InputError(file, problem, "draw the box again, or remove the object", case, "warning"))
        return None
    area = None if entry.get("area") is None else numbers([entry["area"]], file, f"area of object {number}")[0]
    crowd, ignore = (flag(entry.get(key), file, f"{key} of object {number}") for key in ("iscrowd", "ignore"))
    crowd = crowd and options.crowd == "ignore"
    spans = [[value for polygon in polygons for value in polygon[axis::2]] for axis in (0, 1)]
    wrong = contradiction(box, (*map(min, spans), *map(max, spans))) if polygons else None
    if box and not drawn and area is not None and fits_as_corners(box, area):
        wrong = f"bbox {list(box)} fits the area {area:g} only as [x1, y1, x2, y2]", AS_SIDES
    if wrong:
        raise InputError(file, f"object {number}: {wrong[0]}", wrong[1])
    kind = IgnoredObject if ignore and not crowd else CocoObject
    return kind(image.labels[category], box, polygons, rle, crowd, area)


register_format("coco", detect, read, DESCRIPTION, Options, order=60)

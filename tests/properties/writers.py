"""Writers of data sets as other tools write them, independent of Boxel's readers and writers.

Each takes an empty folder and pictures, and writes them with their annotations.
"""

import csv
import io
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import SimpleITK as sitk
from PIL import Image

CLASSES = ("cell", "Knötchen")
UPRIGHT, TURNED = 1, 6  # EXIF: as stored; to be turned clockwise


@dataclass(frozen=True)
class Drawn:
    """A picture with its objects.

    Attributes:
        folders: below the folder of the images.
        stem: name without suffix.
        suffix: with its dot, in any case.
        array: `(*s)` uint8, as a viewer shows it; objects are bright.
        boxes: `(n, 2, d)`, half-open whole voxels that do not touch.
        labels: class of each box.
        part: train, val or test.
        orientation: of EXIF; the stored pixels are turned back.
    """

    folders: tuple[str, ...]
    stem: str
    suffix: str
    array: np.ndarray = field(repr=False)
    boxes: np.ndarray
    labels: tuple[int, ...]
    part: str = "train"
    orientation: int = UPRIGHT

    @property
    def name(self) -> str:
        return self.stem + self.suffix

    @property
    def path(self) -> str:
        return "/".join((*self.folders, self.name))


@dataclass(frozen=True)
class Style:
    """How a data set is written where tools differ."""

    images: str = "images"
    paths: str = "below images"  # or "below root", "bare", "backslash", "windows"
    newline: str = "\n"
    bom: bool = False
    encoding: str = "utf-8"
    separator: str = ","
    id_type: type = int
    declare_size: bool = True
    many_files: bool = False
    extras: frozenset[str] = field(default_factory=frozenset)


def save(path: Path, drawn: Drawn, array: np.ndarray | None = None) -> None:
    """Write the picture, or `array` in its place, at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = drawn.array if array is None else array
    if path.name.lower().endswith((".nii.gz", ".nii", ".mha", ".nrrd")):
        temporary = path.with_name("temporary" + drawn.suffix.lower())
        sitk.WriteImage(sitk.GetImageFromArray(pixels), str(temporary))
        temporary.rename(path)
        return
    kind = {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".jpg": "JPEG"}[path.suffix.lower()]
    if array is not None or drawn.orientation == UPRIGHT:
        Image.fromarray(pixels).save(path, kind)
        return
    exif = Image.Exif()
    exif[0x0112] = drawn.orientation
    Image.fromarray(np.rot90(pixels)).save(path, kind, exif=exif)  # 6: shown after a quarter turn clockwise


def save_text(path: Path, text: str, style: Style) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.replace("\n", style.newline).encode(style.encoding)
    path.write_bytes((b"\xef\xbb\xbf" if style.bom and style.encoding == "utf-8" else b"") + content)


def named(drawn: Drawn, style: Style) -> str:
    """How the annotation calls the picture."""
    return {
        "below images": drawn.path,
        "below root": f"{style.images}/{drawn.path}",
        "bare": drawn.name,
        "backslash": f"{style.images}/{drawn.path}".replace("/", "\\"),
        "windows": f"D:\\data\\{style.images}\\" + drawn.path.replace("/", "\\"),
    }[style.paths]


def label_map(drawn: Drawn, values: list[int]) -> np.ndarray:
    result = np.zeros(drawn.array.shape, np.uint8)
    for (lower, upper), value in zip(drawn.boxes, values, strict=True):
        result[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))] = value
    return result


def write_coco(root: Path, pictures: list[Drawn], style: Style) -> None:
    for drawn in pictures:
        save(root / style.images / drawn.path, drawn)
    parts = defaultdict(list)
    for drawn in pictures:
        parts[drawn.part if style.many_files else "annotations"].append(drawn)
    for part, inside in parts.items():
        flip = style.many_files and part == "val"  # every file numbers its categories as it likes
        categories = [{"id": number + 1, "name": name} for number, name in enumerate(CLASSES[:: -1 if flip else 1])]
        numbers = {entry["name"]: entry["id"] for entry in categories}
        images, annotations = [], []
        for number, drawn in enumerate(inside):
            image = {"id": style.id_type(number), "file_name": named(drawn, style)}
            if style.declare_size:
                image |= {"height": drawn.array.shape[0], "width": drawn.array.shape[1]}
            images.append(image)
            for ((y0, x0), (y1, x1)), label in zip(drawn.boxes.tolist(), drawn.labels, strict=True):
                annotations.append({"id": len(annotations) + 1, "image_id": float(number) if style.id_type is int else
                                    str(number), "category_id": numbers[CLASSES[label]], "iscrowd": 0,
                                    "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)})  # fmt: skip
        text = json.dumps({"images": images, "annotations": annotations, "categories": categories}, ensure_ascii=False)
        name = f"annotations/instances_{part}.json" if style.many_files else "annotations.json"
        save_text(root / name, text, style)


def write_yolo(root: Path, pictures: list[Drawn], style: Style) -> None:
    for drawn in pictures:
        save(root / "images" / drawn.part / drawn.path, drawn)
        lines = []
        for ((y0, x0), (y1, x1)), label in zip(drawn.boxes.tolist(), drawn.labels, strict=True):
            height, width = drawn.array.shape
            lines.append(f"{label} {(x0 + x1) / 2 / width} {(y0 + y1) / 2 / height} {(x1 - x0) / width} "
                         f"{(y1 - y0) / height}")  # fmt: skip
        text = "\n".join([*lines, ""])
        save_text(root / "labels" / drawn.part / "/".join((*drawn.folders, drawn.stem + ".txt")), text, style)
    save_text(root / "data.yaml", "names:\n" + "".join(f"  {i}: {n}\n" for i, n in enumerate(CLASSES)), Style())


def write_voc(root: Path, pictures: list[Drawn], style: Style) -> None:
    lists: dict[str, list[Drawn]] = defaultdict(list)
    for drawn in pictures:
        save(root / "JPEGImages" / drawn.path, drawn)
        tree = ElementTree.Element("annotation")
        ElementTree.SubElement(tree, "filename").text = drawn.name
        if style.declare_size:
            size = ElementTree.SubElement(tree, "size")
            ElementTree.SubElement(size, "width").text = str(drawn.array.shape[1])
            ElementTree.SubElement(size, "height").text = str(drawn.array.shape[0])
        for ((y0, x0), (y1, x1)), label in zip(drawn.boxes.tolist(), drawn.labels, strict=True):
            node = ElementTree.SubElement(tree, "object")
            ElementTree.SubElement(node, "name").text = CLASSES[label]
            box = ElementTree.SubElement(node, "bndbox")
            for key, value in {"xmin": x0 + 1, "ymin": y0 + 1, "xmax": x1, "ymax": y1}.items():
                ElementTree.SubElement(box, key).text = str(value)
        path = root / "Annotations" / "/".join((*drawn.folders, drawn.stem + ".xml"))
        save_text(path, ElementTree.tostring(tree, encoding="unicode"), style)
        if style.many_files:
            lists[drawn.part].append(drawn)
    for part, inside in lists.items():
        names = ["/".join((*drawn.folders, drawn.stem)) for drawn in inside]
        save_text(root / "ImageSets" / "Main" / f"{part}.txt", "\n".join([*names, ""]), style)


def write_table(root: Path, pictures: list[Drawn], style: Style) -> None:
    columns = ["file", "x1", "y1", "z1", "x2", "y2", "z2", "label"]
    ndim = pictures[0].array.ndim
    if ndim == 2:
        columns = [name for name in columns if name[0] != "z"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=style.separator, lineterminator="\n")
    writer.writerow([*columns, "split"])
    for drawn in pictures:
        save(root / style.images / drawn.path, drawn)
        split = "test" if drawn.part == "test" else "train"
        for (lower, upper), label in zip(drawn.boxes.tolist(), drawn.labels, strict=True):
            corners = [f"{value}.0" for value in (*lower[::-1], *upper[::-1])]
            corners = [value.replace(".", ",") for value in corners] if style.separator == ";" else corners
            writer.writerow([named(drawn, style), *corners, CLASSES[label], split])
        if not drawn.labels:
            writer.writerow([named(drawn, style), *[""] * 2 * ndim, "", split])
    save_text(root / "boxes.csv", buffer.getvalue(), style)


def write_monai(root: Path, pictures: list[Drawn], style: Style) -> None:
    parts = defaultdict(list)
    for drawn in pictures:
        save(root / style.images / drawn.path, drawn)
        key = {"train": "training", "val": "validation", "test": "testing"}[drawn.part]
        boxes = [[*lower[::-1], *upper[::-1]] for lower, upper in drawn.boxes.tolist()]
        labels = [float(label) if style.id_type is str else label for label in drawn.labels]
        parts[key].append({"image": named(drawn, style), "box": boxes, "label": labels})
    parts["training"] += []
    parts["labels"] = dict(enumerate(CLASSES))
    save_text(root / "dataset.json", json.dumps(parts, ensure_ascii=False), style)


def write_native(root: Path, pictures: list[Drawn], style: Style) -> None:
    for drawn in pictures:
        part = "Ts" if drawn.part == "test" else "Tr"
        save(root / f"images{part}" / f"{drawn.stem}_0000{drawn.suffix}", drawn)
        ids = range(1, len(drawn.labels) + 1)
        save(root / f"labels{part}" / f"{drawn.stem}{drawn.suffix}", drawn, label_map(drawn, list(ids)))
        instances = {str(number): label for number, label in zip(ids, drawn.labels, strict=True)}
        save_text(root / f"labels{part}" / f"{drawn.stem}.json", json.dumps({"instances": instances}), style)
    head = {"name": "x", "dim": pictures[0].array.ndim, "labels": {str(i): n for i, n in enumerate(CLASSES)},
            "modalities": {"0": "MR"}}  # fmt: skip
    save_text(root / "dataset.json", json.dumps(head, ensure_ascii=False), style)


def write_nnunet(root: Path, pictures: list[Drawn], style: Style) -> None:
    for drawn in pictures:
        part = "Ts" if drawn.part == "test" else "Tr"
        channel = "" if style.many_files else "_0000"  # the Decathlon has no channel numbers
        save(root / f"images{part}" / f"{drawn.stem}{channel}{drawn.suffix}", drawn)
        values = [label + 1 for label in drawn.labels]
        save(root / f"labels{part}" / f"{drawn.stem}{drawn.suffix}", drawn, label_map(drawn, values))
    names = ["background", *CLASSES]
    if style.many_files:
        head = {"modality": {"0": "MR"}, "labels": {str(i): name for i, name in enumerate(names)}}
    else:
        head = {"channel_names": {"0": "MR"}, "labels": {name: i for i, name in enumerate(names)},
                "file_ending": pictures[0].suffix}  # fmt: skip
    save_text(root / "dataset.json", json.dumps(head, ensure_ascii=False), style)


def write_pairs(root: Path, pictures: list[Drawn], style: Style) -> None:
    for drawn in pictures:
        save(root / "images" / drawn.path, drawn)
        ids = list(range(1, len(drawn.labels) + 1))
        save(root / "masks" / drawn.path, drawn, label_map(drawn, ids))

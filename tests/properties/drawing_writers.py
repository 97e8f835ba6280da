"""Writers of data sets as drawing tools write them, independent of Boxel's readers; and all writers by their layout."""

import json
from collections import defaultdict
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

from tests.properties.writers import (
    CLASSES,
    Drawn,
    Style,
    named,
    save,
    save_text,
    write_coco,
    write_monai,
    write_native,
    write_nnunet,
    write_pairs,
    write_table,
    write_voc,
    write_yolo,
)


def write_labelme(root: Path, pictures: list[Drawn], style: Style) -> None:
    for drawn in pictures:
        save(root / drawn.path, drawn)
        shapes = [
            {"label": CLASSES[label], "shape_type": "rectangle", "points": [[x0, y0], [x1, y1]], "group_id": None}
            for ((y0, x0), (y1, x1)), label in zip(drawn.boxes.tolist(), drawn.labels, strict=True)
        ]
        values = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": drawn.name, "imageData": None}
        if style.declare_size:
            values |= {"imageHeight": drawn.array.shape[0], "imageWidth": drawn.array.shape[1]}
        text = json.dumps(values, ensure_ascii=False)
        save_text(root / "/".join((*drawn.folders, f"{drawn.stem}.json")), text, style)


def write_cvat(root: Path, pictures: list[Drawn], style: Style) -> None:
    tree = ElementTree.Element("annotations")
    ElementTree.SubElement(tree, "version").text = "1.1"
    for number, drawn in enumerate(pictures):
        save(root / style.images / drawn.path, drawn)
        height, width = drawn.array.shape
        image = {"id": str(number), "name": named(drawn, style), "width": str(width), "height": str(height)}
        node = ElementTree.SubElement(tree, "image", image, subset=drawn.part)
        for ((y0, x0), (y1, x1)), label in zip(drawn.boxes.tolist(), drawn.labels, strict=True):
            corners = {"xtl": f"{x0:.2f}", "ytl": f"{y0:.2f}", "xbr": f"{x1:.2f}", "ybr": f"{y1:.2f}"}
            ElementTree.SubElement(node, "box", corners, label=CLASSES[label], occluded="0")
    save_text(root / "annotations.xml", ElementTree.tostring(tree, encoding="unicode"), style)


def write_cvat_yolo(root: Path, pictures: list[Drawn], style: Style) -> None:
    lines = defaultdict(list)
    for drawn in pictures:
        part = {"val": "valid"}.get(drawn.part, drawn.part)
        folder = f"obj_{part}_data"
        save(root / folder / drawn.path, drawn)
        height, width = drawn.array.shape
        text = "".join(
            f"{label} {(x0 + x1) / 2 / width:.9f} {(y0 + y1) / 2 / height:.9f} {(x1 - x0) / width:.9f} "
            f"{(y1 - y0) / height:.9f}\n"
            for ((y0, x0), (y1, x1)), label in zip(drawn.boxes.tolist(), drawn.labels, strict=True)
        )
        save_text(root / folder / "/".join((*drawn.folders, f"{drawn.stem}.txt")), text, style)
        lines[part].append(f"data/{folder}/{drawn.path}")
    for part, names in lines.items():
        save_text(root / f"{part}.txt", "\n".join([*names, ""]), style)
    head = "".join(f"{part} = data/{part}.txt\n" for part in lines)
    save_text(root / "obj.data", f"classes = 2\n{head}names = data/obj.names\nbackup = backup/\n", style)
    save_text(root / "obj.names", "\n".join([*CLASSES, ""]), style)


def write_via(root: Path, pictures: list[Drawn], style: Style) -> None:
    images = {}
    for drawn in pictures:
        save(root / style.images / drawn.path, drawn)
        regions = [
            {"shape_attributes": {"name": "rect", "x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0},
             "region_attributes": {"type": CLASSES[label]}}
            for ((y0, x0), (y1, x1)), label in zip(drawn.boxes.tolist(), drawn.labels, strict=True)
        ]  # fmt: skip
        listed = dict(enumerate(regions)) if style.id_type is str else regions
        images[f"{drawn.path}-1"] = {"filename": named(drawn, style), "size": -1, "regions": listed}
    values = {"_via_settings": {}, "_via_img_metadata": images} if style.many_files else images
    save_text(root / "via_project.json", json.dumps(values, ensure_ascii=False), style)


def write_label_studio(root: Path, pictures: list[Drawn], style: Style) -> None:
    tasks = []
    for number, drawn in enumerate(pictures):
        save(root / style.images / drawn.path, drawn)
        height, width = drawn.array.shape
        results = [
            {"type": "rectanglelabels", "original_width": width, "original_height": height,
             "value": {"x": 100 * x0 / width, "y": 100 * y0 / height, "width": 100 * (x1 - x0) / width,
                       "height": 100 * (y1 - y0) / height, "rotation": 0, "rectanglelabels": [CLASSES[label]]}}
            for ((y0, x0), (y1, x1)), label in zip(drawn.boxes.tolist(), drawn.labels, strict=True)
        ]  # fmt: skip
        source = f"/data/local-files/?d={quote(named(drawn, style))}"
        tasks.append({"id": number, "data": {"image": source}, "annotations": [{"result": results}]})
    save_text(root / "project.json", json.dumps(tasks), style)


WRITERS = {
    "labelme": write_labelme,
    "cvat": write_cvat,
    "cvat_yolo": write_cvat_yolo,
    "via": write_via,
    "label_studio": write_label_studio,
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
    "table": write_table,
    "monai": write_monai,
    "native": write_native,
    "nnunet": write_nnunet,
    "pairs": write_pairs,
}

"""The lines of YOLO's annotations: boxes, polygons, and boxes with key points."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boxel.datasets.annotations import Shape
from boxel.datasets.formats.files import numbers
from boxel.datasets.problems import InputError
from boxel.inputs.texts import read_text
from boxel.wording import counted

__all__ = ["is_annotation", "key_points", "names_in", "shapes_of"]

LONG = 6  # numbers of a line; more than a class, a box and a track or a score


def is_annotation(file: Path) -> bool:
    """Whether a text file has numbers only, unlike a note that somebody left."""
    try:
        return all(numbers(line.split(), file, "") for line in read_text(file).splitlines() if line.strip())
    except ValueError:
        return False


def key_points(
    path: Path, texts: Sequence[Path], ndim: int, heads: Sequence[Mapping[str, Any]], kind: str
) -> tuple[int, ...]:
    """The counts of numbers after the class that a line may have if it is a box with key points; else empty.

    Raises:
        InputError: long lines may be that or polygons, and nothing decides.
    """
    shapes = [values["kpt_shape"] for values in heads if values.get("kpt_shape")]
    if shapes and kind in ("auto", "keypoints"):
        points, each = numbers(shapes[0], path, "kpt_shape of data.yaml", 2)
        return (4, 4 + int(points * each))
    lines = {text: read_text(text).splitlines() for text in texts if text.exists()}
    long = [(text, len(line.split()) - 1) for text in lines for line in lines[text] if len(line.split()) > LONG]
    counts = sorted({count for _, count in long})
    if kind == "keypoints":
        return (4, *counts)
    if kind == "auto" and not heads and ndim == 2 and len(counts) == 1:
        problem = f"{counts[0]} numbers after the class are a polygon, or a box and key points"
        fix = "say which, by --option lines=polygons or lines=keypoints, or by a data.yaml"
        raise InputError(long[0][0], problem, fix)
    return ()


def names_in(file: Path) -> list[str]:
    """The names of the classes, a line each; an empty line is a class without name, except at the end."""
    return [line.strip() for line in read_text(file).rstrip().splitlines()]


def shapes_of(file: Path, ndim: int, key_points: Sequence[int], kind: str) -> list[Shape]:
    """The objects of an annotation; `kind` is the reader's setting `lines`."""
    shapes = []
    for line_number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"line {line_number}"
        label, *values = numbers(line.split(), file, where)
        if label < 0 or label != int(label) or len(values) < 2 * ndim:
            rule = "class and 4 fractions (2D), or class and 6 (3D)"
            raise InputError(file, f"{where} is {line[:60]!r}", f"write {rule}")
        if key_points and ndim == 2 and len(values) not in key_points:
            problem = (
                f"{where} has {len(values)} numbers after the class, but boxes with key points have {key_points[-1]}"
            )
            raise InputError(file, problem, "correct kpt_shape in data.yaml, or choose --option lines=polygons")
        if ndim == 2 and len(values) >= LONG and not key_points and kind != "boxes":
            if len(values) % 2:
                problem = f"{where} has {len(values)} numbers after the class, which is no polygon"
                fix = "key points need kpt_shape in data.yaml, or --option lines=keypoints"
                raise InputError(file, problem, fix)
            points = np.array(values).reshape(-1, 2)[:, ::-1]
        else:
            if len(values) > 2 * ndim and not key_points and kind != "boxes":
                problem = f"{where} has {counted(len(values) - 2 * ndim, 'number')} after the box, as predictions have"
                fix = "use the annotations, not predictions; --option lines=boxes leaves these numbers out"
                raise InputError(file, problem, fix)
            centre, extent = np.array(values[: 2 * ndim]).reshape(2, ndim)
            order = (1, 0) if ndim == 2 else (0, 2, 1)  # x, y or z, x, y to array order
            centre, extent = centre[list(order)], extent[list(order)]
            points = np.stack([centre - extent / 2, centre + extent / 2])
        if (points < -0.5).any() or (points > 1.5).any() or not (np.ptp(points, axis=0) > 0).all():
            raise InputError(
                file, f"{where} is not a box inside the image: {line[:60]!r}", "write fractions from 0 to 1"
            )
        shapes.append(Shape(int(label), tuple(map(tuple, points.tolist())), frame="fraction"))
    return shapes

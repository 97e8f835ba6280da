"""Pictures of single cases: which ones, and what is drawn on them.

A plane is spanned by the last two axes, whatever comes before.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from boxel.types import Detections, Instances

MAX_PLANES = 6
MAX_SIDE = 512
MAX_LABELS = 14
MAX_NAME = 14


@dataclass(frozen=True)
class Picture:
    """One case to show.

    Attributes:
        case: its name.
        image: one channel `(*s)`.
        truth: the annotated objects, in its voxels.
        detections: the found ones, in its voxels.
        classes: names of the labels.
        caption: why it is shown.
        spacing: mm per voxel and axis, so that voxels are drawn in proportion.
        score_thresholds: per class, lower scores are not drawn (None: all are).
        found: `(m,)` bool, which objects were found, where known.
        hits: `(n,)` bool, which detections found one, where known.
    """

    case: str
    image: np.ndarray
    truth: Instances
    detections: Detections
    classes: Sequence[str]
    caption: str = ""
    spacing: Sequence[float] | None = None
    score_thresholds: Sequence[float | None] | None = None
    found: np.ndarray | None = None
    hits: np.ndarray | None = None


def choose_pictures(rows: Sequence[Mapping[str, Any]], limit: int = 8) -> list[tuple[str, str]]:
    """Cases worth looking at, each with the reason: worst misses, most false positives, best, typical.

    Args:
        rows: per case and class, as in `per_case.csv`: case, num_objects, true_positives, false_positives,
            false_negatives.
        limit: most cases to return; a quarter of each kind, the rest filled up with typical ones.

    Returns:
        `(case, reason)`, no case twice, the errors first.
    """
    totals: dict[str, np.ndarray] = {}
    for row in rows:
        counts = [int(row[key]) for key in ("num_objects", "true_positives", "false_positives", "false_negatives")]
        totals[str(row["case"])] = totals.get(str(row["case"]), 0) + np.array(counts)
    f1 = {case: 2 * tp / max(2 * tp + fp + fn, 1) for case, (n, tp, fp, fn) in totals.items() if n}
    middle = float(np.median(list(f1.values()))) if f1 else 0.0
    rankings = (
        ("worst miss", lambda c: -totals[c][3], [c for c in totals if totals[c][3]]),
        ("most false positives", lambda c: -totals[c][2], [c for c in totals if totals[c][2]]),
        ("best", lambda c: -totals[c][0], [c for c in f1 if f1[c] == 1]),
        ("typical", lambda c: abs(f1[c] - middle), list(f1)),
        ("without objects", lambda c: totals[c][2], [c for c in totals if c not in f1]),
    )
    chosen: dict[str, str] = {}
    share = max(limit // 4, 1)
    for quota in (share, limit):
        for reason, key, candidates in rankings if quota == share else rankings[-2:]:
            fresh = [case for case in sorted(candidates, key=key) if case not in chosen]
            for case in fresh[: min(quota, limit - len(chosen))]:
                objects, tp, fp, _ = totals[case].tolist()
                chosen[case] = f"{reason}: {tp} of {objects} found, {fp} false positive{'s' * (fp != 1)}"
    order = [reason for reason, *_ in rankings]
    return sorted(chosen.items(), key=lambda item: order.index(item[1].split(":")[0]))


def draw(picture: Picture) -> dict[str, Any]:
    """What the template needs: for each chosen plane the image as a data URI and rectangles on it."""
    image = np.asarray(picture.image, dtype=np.float32)
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, [0.5, 99.7]) if finite.size else (0.0, 1.0)
    boxes = _boxes(picture)
    planes = [
        _draw_plane(image, position, boxes, (float(low), float(high)), picture.spacing)
        for position in _choose_planes(image.shape, boxes)
    ]
    hidden = len(picture.detections) - sum(box["kind"] == "detection" for box in boxes)
    return {"case": picture.case, "caption": picture.caption, "planes": planes, "hidden": hidden}


def _boxes(picture: Picture) -> list[dict[str, Any]]:
    """Objects and the detections above their thresholds, the errors first, then by score."""
    boxes = []
    truth, detections = picture.truth, picture.detections
    for row, label in enumerate(np.asarray(truth.labels).tolist()):
        missed = picture.found is not None and not bool(picture.found[row])
        hint = f"object {int(truth.ids[row])}: {picture.classes[label]}{', missed' if missed else ''}"
        # The name of an object that was found stands on its detection.
        name = _short(picture, label) if missed or picture.found is None else ""
        box = {"kind": "truth", "corners": np.asarray(truth.boxes[row], float), "hint": hint, "error": missed}
        text = "missed " * missed + name
        boxes.append(box | {"text": text.strip(), "rank": (not missed, 0.0)})
    for row, label in enumerate(np.asarray(detections.labels).tolist()):
        score = float(detections.scores[row])
        threshold = picture.score_thresholds[label] if picture.score_thresholds else None
        if threshold is not None and score < threshold:
            continue
        false = picture.hits is not None and not picture.hits[row]
        note = ", false positive" if false else ""
        hint = f"detection: {picture.classes[label]}, score {score:.3f}{note}"
        text = " ".join(filter(None, ["false" if false else "", _short(picture, label), f"{score:.2f}"]))
        box = {"kind": "detection", "corners": np.asarray(detections.boxes[row], float), "hint": hint}
        boxes.append(box | {"text": text, "error": false, "rank": (not false, -score)})
    return sorted(boxes, key=lambda box: box["rank"])


def _short(picture: Picture, label: int) -> str:
    """The class name if there is more than one class, cut to what fits on a picture."""
    name = picture.classes[label] if len(picture.classes) > 1 else ""
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _choose_planes(shape: tuple[int, ...], boxes: list[dict[str, Any]]) -> list[tuple[int, ...]]:
    """Positions along the leading axes: through the middle of each box that no earlier plane shows well.

    A plane has no leading axes in an image of rows and columns: the one position is then `()`.
    """
    leading = np.array(shape[:-2], dtype=int)
    planes: list[tuple[int, ...]] = []
    for box in boxes:
        lower, upper = box["corners"][:, : len(leading)]
        centre, half = (lower + upper) / 2, (upper - lower) / 4
        near = [np.all(np.abs(np.array(plane) + 0.5 - centre) <= np.maximum(half, 1.0)) for plane in planes]
        if not any(near):
            planes.append(tuple(np.clip(centre.astype(int), 0, leading - 1).tolist()))
    return sorted(planes[:MAX_PLANES]) or [tuple((leading // 2).tolist())]


def _draw_plane(
    image: np.ndarray,
    position: tuple[int, ...],
    boxes: list[dict[str, Any]],
    window: tuple[float, float],
    spacing: Sequence[float] | None,
) -> dict[str, Any]:
    plane = image[position]
    inside = [box for box in boxes if _crosses(box["corners"], position)]
    start, stop = _crop(plane.shape, [box["corners"][:, -2:] for box in inside])
    crop = plane[start[0] : stop[0], start[1] : stop[1]]
    # Drawn in units of the finer of the two in-plane spacings.
    scale = np.asarray(spacing[-2:] if spacing else (1.0, 1.0), float)
    scale = scale / scale.min()
    height, width = np.asarray(crop.shape) * scale
    crowded = len(inside) > MAX_LABELS
    text_size = max(width, height) * 0.042
    rectangles = []
    # On top are the errors, and the dashes of an object lie on the line of its detection.
    for box in sorted(inside, key=lambda box: (box["error"], box["kind"] == "truth")):
        (top, left), (bottom, right) = (box["corners"][:, -2:] - start) * scale
        text = "" if crowded and not box["error"] else box["text"]
        # Scores stand above their box, names of objects below it; moved inwards at the picture's border.
        text_x = max(min(left, width - 0.62 * text_size * len(text)), 0.0)
        text_y = top - text_size / 3 if box["kind"] == "detection" else bottom + text_size
        place = {"x": left, "y": top, "width": right - left, "height": bottom - top, "text_x": text_x}
        place["text_y"] = min(max(text_y, text_size), height - text_size / 3)
        place = {key: round(float(value), 2) for key, value in place.items()}
        rectangles.append(place | {"kind": box["kind"], "hint": box["hint"], "text": text})
    places = [f"{index + 1} of {size}" for index, size in zip(position, image.shape, strict=False)]
    name = f"slice {', '.join(places)}" if places else ""
    if crop.shape != plane.shape:
        name += f" (rows {start[0]} to {stop[0]}, columns {start[1]} to {stop[1]})"
    return {
        "uri": _data_uri(crop, window),
        "width": round(float(width), 2),
        "height": round(float(height), 2),
        "text_size": round(float(text_size), 2),
        "boxes": rectangles,
        "name": name,
    }


def _crosses(corners: np.ndarray, position: tuple[int, ...]) -> bool:
    middle = np.array(position) + 0.5
    lower, upper = corners[:, : len(position)]
    return bool(np.all((lower < middle) & (middle < upper)))


def _crop(shape: tuple[int, ...], boxes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """At most MAX_SIDE rows and columns, around the first (most telling) box."""
    size = np.minimum(shape, MAX_SIDE)
    centre = boxes[0].mean(axis=0) if boxes else np.asarray(shape) / 2
    start = np.clip((centre - size / 2).round().astype(int), 0, np.asarray(shape) - size)
    return start, start + size


def _data_uri(plane: np.ndarray, window: tuple[float, float]) -> str:
    """PNG, or JPEG where that is much smaller."""
    from PIL import Image

    low, high = window
    grey = (np.nan_to_num(plane, nan=low) - low) / max(high - low, 1e-9)
    pixels = Image.fromarray((np.clip(grey, 0, 1) * 255).astype(np.uint8))
    content, kind = _encode(pixels, "PNG"), "png"
    if len(content) > 40_000:
        content, kind = _encode(pixels, "JPEG"), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _encode(pixels: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    pixels.save(buffer, format=kind, quality=88, optimize=True)
    return buffer.getvalue()

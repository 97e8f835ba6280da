"""Pictures of single cases: which cases are shown, and which boxes are drawn on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from boxel.io.display import class_colour, window_of
from boxel.reporting.planes import MAX_SIDE, draw_plane, region_around, visible_region
from boxel.types import Detections, Instances
from boxel.wording import counted

# A page stays small enough to be mailed: 8 volumes of 48 slices weigh 2 to 4 MB.
MAX_PLANES = 6
MAX_SLICES = 48
SLICE_SIDE = 288
IMAGE_EXTENT = 1024  # rows and columns of an image without slices, so that photographs are shown as a whole
DETAIL_SIDE = 160
MAX_NAME = 14
MOST_BOXES = 500  # of a picture


@dataclass(frozen=True)
class Picture:
    """One case to show.

    Attributes:
        case: its name.
        image: one channel `(*s)` or colours `(3, *s)`, or a function that loads it when it is drawn.
        ground_truth: the annotated objects, in voxels.
        detections: the detections, in voxels.
        classes: names of the labels.
        caption: why it is shown.
        spacing: mm per voxel and axis, so that voxels are drawn in proportion.
        score_thresholds: for each class, the score below which detections are not drawn (None: all are drawn).
        detected: `(m,)` bool, the objects that were detected, if known.
        true_positives: `(n,)` bool, the detections that match an object, if known.
        label_map: a function that loads the predicted classes of voxels `(*s)`, 1 + k for class k, if there are some.
    """

    case: str
    image: np.ndarray | Callable[[], np.ndarray]
    ground_truth: Instances
    detections: Detections
    classes: Sequence[str]
    caption: str = ""
    spacing: Sequence[float] | None = None
    score_thresholds: Sequence[float | None] | None = None
    detected: np.ndarray | None = None
    true_positives: np.ndarray | None = None
    label_map: Callable[[], np.ndarray] | None = None


def choose_pictures(rows: Sequence[Mapping[str, Any]], limit: int = 8) -> list[tuple[str, str]]:
    """Cases worth looking at, each with the reason: most missed objects, most false positives, best, typical.

    Args:
        rows: per case and class, as in `per_case.csv`: case, num_objects, true_positives, false_positives,
            false_negatives.
        limit: most cases to return: up to a quarter of each kind, then typical ones.

    Returns:
        Pairs `(case, reason)`, each case once, those with errors first.
    """
    totals: dict[str, np.ndarray] = {}
    for row in rows:
        counts = [int(row[key]) for key in ("num_objects", "true_positives", "false_positives", "false_negatives")]
        totals[str(row["case"])] = totals.get(str(row["case"]), 0) + np.array(counts)
    f1 = {case: 2 * tp / max(2 * tp + fp + fn, 1) for case, (n, tp, fp, fn) in totals.items() if n}
    middle = float(np.median(list(f1.values()))) if f1 else 0.0
    rankings = (
        ("most missed objects", lambda c: -totals[c][3], [c for c in totals if totals[c][3]]),
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
                chosen[case] = f"{reason}: {tp} of {objects} detected, {counted(fp, 'false positive')}"
    order = [reason for reason, *_ in rankings]
    return sorted(chosen.items(), key=lambda item: order.index(item[1].split(":")[0]))


def draw(picture: Picture) -> dict[str, Any]:
    """The planes of a case to scroll through, each an image as a data URI with its rectangles, and where to start.

    Up to MAX_SLICES planes at equal distances, and those through the middle of the boxes.
    """
    image, window, labels = _load(picture)
    every = _boxes(picture)
    boxes, leading = every[:MOST_BOXES], image.shape[1:-2]
    through_boxes = _choose_planes(leading, boxes)
    count = int(np.prod(leading, dtype=int))
    spread = np.unravel_index(_spread(count, MAX_SLICES), leading) if leading else ()
    chosen = set(zip(*(axis.tolist() for axis in spread), strict=True))
    region = visible_region(image.shape[-2:], boxes, MAX_SIDE if leading else IMAGE_EXTENT)
    positions = sorted(chosen | set(through_boxes))
    longest = MAX_SIDE if len(positions) <= MAX_PLANES else SLICE_SIDE
    planes = [
        draw_plane(image, place, boxes, window, picture.spacing, region, longest, label_map=labels)
        for place in positions
    ]
    hidden = len(picture.detections) - sum(box["kind"] == "detection" for box in every)
    left_out = f"{len(positions)} of {counted(count, 'slice')}, including those through the boxes"
    few = f"{len(boxes)} of {len(every):,} boxes, errors and high scores first"
    left_out = "; ".join([left_out] * (len(positions) < count) + [few] * (len(boxes) < len(every)))
    start = positions.index(_plane_through(boxes[0]["corners"], leading) if boxes else through_boxes[0])
    first = planes[start]
    planes[start] = first | {"uri": ""}  # already on the page
    return {"case": picture.case, "caption": picture.caption, "first": first, "planes": planes, "start": start,
            "hidden": hidden, "left_out": left_out}  # fmt: skip


def draw_best_plane(picture: Picture) -> dict[str, Any]:
    """The plane that the most boxes cross, each box in the colour of its class."""
    image, window, labels = _load(picture)
    boxes = [box | {"colour": class_colour(box["label"])} for box in _boxes(picture)[:MOST_BOXES]]
    leading = image.shape[1:-2]
    places = [_plane_through(box["corners"], leading) for box in boxes] or _choose_planes(leading, boxes)

    def crossing(place: tuple[int, ...]) -> int:
        middle = np.array(place) + 0.5
        ends = [box["corners"][:, : len(place)] for box in boxes]
        return sum(bool(((lower < middle) & (middle < upper)).all()) for lower, upper in ends)

    best = max(places, key=crossing)
    whole = (np.zeros(2, int), np.array(image.shape[-2:]))
    plane = draw_plane(image, best, boxes, window, picture.spacing, whole, MAX_SIDE, label_map=labels)
    return {"case": picture.case, "caption": picture.caption, "plane": plane}


def draw_detail(picture: Picture, focus: np.ndarray) -> dict[str, Any]:
    """The neighbourhood of the box `focus (2, d)` in the plane through its middle."""
    image, window, labels = _load(picture)
    steps = np.asarray(picture.spacing[-2:] if picture.spacing else (1.0, 1.0), float)
    extent = ((focus[1] - focus[0])[-2:] * steps).max()
    size = max(float(extent) * 2.5, 40 * float(steps.min())) / steps
    region = region_around(focus[:, -2:].mean(axis=0), size, image.shape[-2:])
    position = _plane_through(focus, image.shape[1:-2])
    boxes = [
        box if np.array_equal(box["corners"], focus) else box | {"text": "", "error": False}
        for box in _boxes(picture, focus)
    ]
    plane = draw_plane(
        image, position, boxes, window, picture.spacing, region, DETAIL_SIDE, text_share=0.06, label_map=labels
    )
    plane["name"] = plane["name"].partition(" (")[0]  # the rows and columns do not matter here
    return {"case": picture.case, "caption": picture.caption, "plane": plane}


def _load(picture: Picture) -> tuple[np.ndarray, tuple[float, float], np.ndarray | None]:
    """The image `(c, *s)`, the values that are drawn black and white, and the label map, if there is one."""
    image = np.asarray(picture.image() if callable(picture.image) else picture.image)
    channels = image if image.ndim > np.shape(picture.ground_truth.boxes)[-1] else image[None]
    return channels, window_of(channels), picture.label_map() if picture.label_map else None


def _spread(count: int, limit: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int))


def _boxes(picture: Picture, focus: np.ndarray | None = None) -> list[dict[str, Any]]:
    """Objects and the detections above their thresholds (and the one at `focus`), errors first, then by score.

    With a `focus` the caption names the class, not the picture.
    """
    boxes = []
    names = [_short(picture, label) if focus is None else "" for label in range(len(picture.classes))]
    ground_truth, detections = picture.ground_truth, picture.detections
    for row, label in enumerate(np.asarray(ground_truth.labels).tolist()):
        missed = picture.detected is not None and not bool(picture.detected[row])
        hint = f"object {int(ground_truth.ids[row])}: {picture.classes[label]}{', missed' if missed else ''}"
        # The class of a detected object stands on its detection.
        name = names[label] if missed or picture.detected is None else ""
        box = {"kind": "object", "corners": np.asarray(ground_truth.boxes[row], float), "hint": hint, "error": missed,
               "label": label}  # fmt: skip
        text = "missed " * missed + name
        boxes.append(box | {"text": text.strip(), "rank": (not missed, 0.0)})
    for row, label in enumerate(np.asarray(detections.labels).tolist()):
        score = float(detections.scores[row])
        threshold = picture.score_thresholds[label] if picture.score_thresholds else None
        corners = np.asarray(detections.boxes[row], float)
        if threshold is not None and score < threshold and not (focus is not None and np.array_equal(corners, focus)):
            continue
        false = picture.true_positives is not None and not picture.true_positives[row]
        note = ", false positive" if false else ""
        hint = f"detection: {picture.classes[label]}, score {score:.3f}{note}"
        text = " ".join(filter(None, ["false" if false else "", names[label], f"{score:.2f}"]))
        box = {"kind": "detection", "corners": corners, "hint": hint, "label": label}
        boxes.append(box | {"text": text, "error": false, "rank": (not false, -score)})
    return sorted(boxes, key=lambda box: box["rank"])


def _short(picture: Picture, label: int) -> str:
    """The class name if there is more than one class, shortened to fit on a picture."""
    name = picture.classes[label] if len(picture.classes) > 1 else ""
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _choose_planes(leading: tuple[int, ...], boxes: list[dict[str, Any]]) -> list[tuple[int, ...]]:
    """Positions along the leading axes: through the middle of each box that no earlier plane shows well.

    An image of rows and columns has no leading axes: its one position is `()`.
    """
    planes: list[tuple[int, ...]] = []
    for box in boxes:
        lower, upper = box["corners"][:, : len(leading)]
        centre, half = (lower + upper) / 2, (upper - lower) / 4
        near = [np.all(np.abs(np.array(plane) + 0.5 - centre) <= np.maximum(half, 1.0)) for plane in planes]
        if not any(near):
            planes.append(_plane_through(box["corners"], leading))
    return sorted(planes[:MAX_PLANES]) or [tuple(size // 2 for size in leading)]


def _plane_through(corners: np.ndarray, leading: tuple[int, ...]) -> tuple[int, ...]:
    """The position along the leading axes of the middle of a box."""
    centre = corners[:, : len(leading)].mean(axis=0)
    return tuple(np.clip(centre.astype(int), 0, np.array(leading, int) - 1).tolist())

"""Mosaics: canvases composed of crops around one lesion each, where whole scans are not available.

    mosaic.json       {"source": "../lidc_nodules", "options": ["class_column=Malignancy_value", "class_from=3"]};
                      see `Mosaic` for all settings
    canvases/         written when the folder is opened for the first time: a data set in the native layout, and
                      objects.csv, which says from which crop each object comes

The crops are a data set in any layout, 3D, with one object per case. Patients are dealt into parts, stratified by
class, and within a part into teams of a few patients. A canvas holds tissue of one team, which is its group: no
patient is in two parts, nor in two groups. Fold `k` tests on part `k`, validates on part `k + 1` and trains on the
others. How the pixels are composed, and what a canvas cannot show, is in `boxel.datasets.quilts`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from boxel.config import Config
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.crops import read_crops
from boxel.datasets.formats import native
from boxel.datasets.formats.native_writer import write_case, write_dataset, write_splits
from boxel.datasets.formats.options import read_splits
from boxel.datasets.formats.registry import register_format
from boxel.datasets.problems import InputError, Report, as_input_error, some
from boxel.datasets.quilts import LEAST, compose, has_tissue
from boxel.datasets.split import make_splits
from boxel.datasets.tiles import Crop, Tile, lay_out
from boxel.escaping import csv_lines
from boxel.files import write_text
from boxel.inputs.texts import read_json
from boxel.pseudonyms import pseudonyms
from boxel.types import Geometry, Image, Progress, silent
from boxel.wording import counted

__all__ = ["Mosaic", "detect", "make_mosaic", "read"]

HEAD = "mosaic.json"
CANVASES = "canvases"
RECORD = "composed.json"

Extent = Annotated[int, Field(ge=1)]
Side = Annotated[int, Field(ge=32)]
Millimetres = Annotated[float, Field(gt=0)]


class Mosaic(Config):
    """The settings of a mosaic.

    Attributes:
        source: folder of the crops, absolute or relative to mosaic.json.
        format: layout of the crops; it is recognised if empty.
        options: settings of that layout, each `"key=value"`.
        canvas: voxels of a canvas (plane, row, column).
        spacing: mm per voxel (plane, row, column), to which crops are resampled.
        canvases: number of canvases in each part; a larger mosaic begins with the canvases of a smaller one.
        folds: number of parts.
        patients: number of patients of a team, or a few more.
        lesions: most lesions of a canvas; each has at least one.
        tiles: lesions and empty tiles of a canvas together, as far as they find a place.
        control: with "seam", rim tissue replaces every lesion but its annotation stays. A model that does better than
            chance there has learnt how canvases are composed.
        seed: random seed of parts, teams and canvases.
    """

    source: str
    format: str = ""
    options: tuple[str, ...] = ()
    canvas: tuple[Extent, Side, Side] = (32, 160, 160)
    spacing: tuple[Millimetres, Millimetres, Millimetres] = (1.25, 0.7, 0.7)
    canvases: int = Field(100, ge=1)
    folds: int = Field(4, ge=3)
    patients: int = Field(4, ge=1)
    lesions: int = Field(4, ge=1)
    tiles: int = Field(8, ge=1, le=255)
    control: Literal["none", "seam"] = "none"
    seed: int = Field(0, ge=0)


class _Canvas(NamedTuple):
    """What a canvas will show: which crops of its team with their lesions, and which without."""

    id: str
    crops: Sequence[Crop]
    lesions: tuple[int, ...]
    empty: tuple[int, ...]
    rng: np.random.Generator


def detect(path: Path) -> bool:
    return (path / HEAD).is_file()


def read(path: Path, report: Report) -> Dataset:
    """The canvases of folder `path`; composes them if they are not there yet, about 0.3 s for each.

    Raises:
        ValueError: mosaic.json or the crops cannot be used, or `canvases` holds those of other settings.
    """
    if not _is_complete(path, _settings(path)):
        _compose_all(path, _settings(path), silent)
        report(InputError(path, f"canvases composed into {CANVASES}", "they are reused from now on", severity="note"))
    left_out = _composed(path / CANVASES).get("left_out", {})
    if left_out:
        reasons = "; ".join(dict.fromkeys(map(str, left_out.values())))
        problem = f"the mosaic leaves out {counted(len(left_out), 'crop')}: {some(left_out)} ({reasons})"
        report(InputError(path / HEAD, problem, "nothing to do if the others are enough", severity="warning"))
    dataset = native.read(path / CANVASES, report)
    return replace(dataset, root=path, name=path.resolve().name, splits=read_splits(dataset, ""))


def make_mosaic(out: Path | str, settings: Mosaic, *, progress: Progress = silent) -> Path:
    """Write mosaic.json, compose the canvases and return the folder, which opens like any data set.

    Every canvas has its own seed. Rerun an interrupted call to resume it.

    Args:
        out: a new or empty folder, or one written with the same settings.
        settings: a `source` that is not absolute is relative to `out`.
        progress: called with the stage, the canvases done and all canvases.

    Raises:
        ValueError: the crops cannot be used, or `out` holds a mosaic of other settings.
    """
    out = Path(out)
    if not (out / HEAD).exists():
        settings.save(out / HEAD)
    if _settings(out) != settings:
        raise ValueError(f"{out / HEAD}: describes another mosaic; choose another folder, or remove it")
    if not _is_complete(out, settings):
        _compose_all(out, settings, progress)
    return out


def _settings(path: Path) -> Mosaic:
    try:
        return Mosaic.load(path / HEAD)
    except ValueError as error:
        raise as_input_error(error) from None


def _is_complete(path: Path, settings: Mosaic) -> bool:
    """Whether all canvases are there.

    Raises:
        ValueError: those there have other settings.
    """
    folder = path / CANVASES
    if not (folder / RECORD).exists():
        if folder.exists() and any(folder.iterdir()):
            raise InputError(folder, "was not written by Boxel", "move it, so that canvases can be composed there")
        return False
    known, mine = _composed(folder).get("settings", {}), settings.to_dict()
    if known != mine:
        changes = [f"{key} {known.get(key)!r} instead of {mine[key]!r}" for key in mine if known.get(key) != mine[key]]
        problem = f"holds canvases with {', '.join(changes)}"
        raise InputError(folder, problem, f"remove it to compose them anew, or restore {HEAD}")
    return (folder / "dataset.json").exists()


def _composed(folder: Path) -> dict[str, dict[str, Any]]:
    return read_json(folder / RECORD, dict[str, dict[str, Any]], "remove the folder to compose the canvases anew")


def _compose_all(path: Path, settings: Mosaic, progress: Progress) -> None:
    """Compose what is missing; dataset.json is written last and makes the folder complete."""
    folder = path / CANVASES
    source = _open_source(path, settings)
    crops, left_out = read_crops(source, settings.canvas, settings.spacing, progress)
    parts = _parts(crops, left_out, settings, path / HEAD)
    write_text(folder / RECORD, json.dumps({"settings": settings.to_dict(), "left_out": left_out}, indent=2) + "\n")
    groups: dict[str, str] = {}
    names = pseudonyms((crop.group for crop in crops), folder, "dataset.json")
    rows: list[tuple[object, ...]] = [("canvas", "object", "case", "plane", "row", "column")]
    for part, teams in enumerate(parts):
        for canvas in _plan(part, teams, settings):
            tiles = lay_out(canvas.crops, canvas.lesions, canvas.empty, settings.canvas, canvas.rng)
            if not (folder / "labelsTr" / f"{canvas.id}.json").exists():
                _write_canvas(folder, canvas, tiles, settings)
            for number, (tile, crop) in enumerate(((tile, canvas.crops[tile.crop]) for tile in tiles), start=1):
                rows += [(canvas.id, number, crop.case, *tile.corner(crop))] if tile.lesion else []
            groups[canvas.id] = "+".join(sorted({names[crop.group] for crop in canvas.crops}))
            progress("compose", len(groups), settings.folds * settings.canvases)
    write_text(folder / "objects.csv", csv_lines(rows))
    ids = [[_name(part, index) for index in range(settings.canvases)] for part in range(settings.folds)]
    write_splits(folder, [_fold(ids, fold) for fold in range(settings.folds)])
    write_dataset(folder, "mosaic", 3, source.classes, source.channels, groups)


def _name(part: int, index: int) -> str:
    return f"part{part}_{index:05d}"


def _fold(ids: Sequence[Sequence[str]], fold: int) -> dict[str, list[str]]:
    val = (fold + 1) % len(ids)
    train = [name for part, names in enumerate(ids) if part not in (fold, val) for name in names]
    return {"train": train, "val": list(ids[val]), "test": list(ids[fold])}


def _open_source(path: Path, settings: Mosaic) -> Dataset:
    from boxel.datasets.formats import open_dataset  # which imports this file

    head, folder = path / HEAD, path / settings.source
    if not folder.exists() or folder.resolve() == path.resolve():
        problem = f'"source" is {settings.source!r}, which is not a folder of crops'
        raise InputError(head, problem, f"give a folder, absolute or relative to {path}")
    source = open_dataset(folder, format=settings.format, options=settings.options)
    if source.ndim != 3 or len(source.channels) != 1:
        problem = f"the crops in {folder} have {source.ndim} axes and {len(source.channels)} channels"
        raise InputError(head, problem, "a mosaic needs volumes of one channel")
    if source.splits or source.test:
        problem = f"{folder} prescribes folds or test cases, which a mosaic does not keep"
        raise InputError(head, problem, "remove splits.json and imagesTs there: a mosaic makes its own folds")
    return source


def _parts(crops: Sequence[Crop], left_out: dict[str, str], settings: Mosaic, head: Path) -> list[list[list[Crop]]]:
    """The crops of each team of each part; adds those of a team without tissue to `left_out`."""
    if not crops:
        reason = next(iter(left_out.values()), "there are none")
        raise InputError(head, f"no crop can be used ({reason})", "change the source, the canvas or the spacing")
    cases = [Case(crop.case, (), group=crop.group) for crop in crops]
    labels, number = {crop.case: [crop.label] for crop in crops}, len({crop.group for crop in crops})
    if 3 <= number < settings.folds:
        raise InputError(head, f"{number} patients for {settings.folds} parts", 'give fewer "folds", or more crops')
    try:
        folds = make_splits(cases, num_folds=settings.folds, seed=settings.seed, strata=labels)
    except ValueError as error:
        lacking = [f"; {case} is left out: {reason}" for case, reason in left_out.items()][:1]
        raise as_input_error(ValueError(f"{head}: {error}{''.join(lacking)}")) from None
    parts = []
    for part, fold in enumerate(folds):
        chosen = [crop for crop in crops if crop.case in set(fold.test)]
        patients = np.array(sorted({crop.group for crop in chosen}))
        np.random.default_rng([settings.seed, part]).shuffle(patients)
        named = np.array_split(patients, max(1, len(patients) // settings.patients))
        teams = [[crop for crop in chosen if crop.group in set(team)] for team in named]
        bare = [crop for team in teams if not has_tissue(team) for crop in team]
        reason = f"the rims of a team hold no square of {LEAST} voxels to fill the canvas with"
        left_out.update({crop.case: reason for crop in bare})
        parts.append([team for team in teams if has_tissue(team)])
        if not parts[-1]:
            problem = f"part {part} has no crop that can be used ({reason}: {some([crop.case for crop in bare])})"
            raise InputError(head, problem, "give more patients per team, or wider crops")
    return parts


def _plan(part: int, teams: Sequence[Sequence[Crop]], settings: Mosaic) -> Iterator[_Canvas]:
    """The canvases of a part: each team in turn; every crop of a team shows its lesion equally often."""
    decks: list[list[int]] = [[] for _ in teams]
    for index in range(settings.canvases):
        rng = np.random.default_rng([settings.seed, part, index])
        number = index % len(teams)
        crops, deck = teams[number], decks[number]
        count = min(int(rng.integers(1, settings.lesions + 1)), settings.tiles)
        while len(deck) < count:
            deck += rng.permutation(len(crops)).tolist()
        lesions = tuple(dict.fromkeys(deck[:count]))
        del deck[:count]
        empty = rng.integers(len(crops), size=settings.tiles - len(lesions)).tolist()
        yield _Canvas(_name(part, index), crops, lesions, tuple(empty), rng)


def _write_canvas(folder: Path, canvas: _Canvas, tiles: Sequence[Tile], settings: Mosaic) -> None:
    image, label_map = compose(canvas.crops, tiles, settings.canvas, canvas.rng, hide=settings.control == "seam")
    labels = {n: canvas.crops[tile.crop].label for n, tile in enumerate(tiles, start=1) if tile.lesion}
    grid = Geometry.plain(settings.canvas, settings.spacing)
    write_case(folder, canvas.id, Image(image[None], grid), label_map, labels, suffix=".mha", compress=False)


register_format("mosaic", detect, read, "mosaic.json: canvases composed of crops around lesions", order=10)

"""Pairs of images and label maps in BIDS, of which `boxel.datasets.formats.pairs` reads the cases.

sub-X[/ses-Y]/anat/sub-X[_ses-Y]_FLAIR.nii.gz                      the image
derivatives/.../sub-X[_ses-Y][_space-FLAIR]_label-lesion_mask...   its label map, a `mask` or `dseg`
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from boxel.datasets.lookup import images_below
from boxel.datasets.problems import InputError, Report, some
from boxel.inputs.folders import listing
from boxel.io import split_suffix
from boxel.wording import counted

__all__ = ["bids_pairs"]

KEYS = ("sub", "ses", "run")  # what tells cases apart
MASKS = ("mask", "dseg")
ORGANS = {"brain", "head", "skull", "skullstrip", "bet"}  # masks of the field of view, not of objects
OTHERS = ("probseg", "bold", "dwi", "epi")  # neither images of one contrast nor label maps


class _File(NamedTuple):
    """A file and what its name says: `sub-1_ses-2_FLAIR` is the kind FLAIR with the entities sub and ses."""

    path: Path
    kind: str
    entities: Mapping[str, str]

    @property
    def session(self) -> tuple[str, str]:
        return self.entities["sub"], self.entities.get("ses", "")

    @property
    def words(self) -> set[str]:
        """Everything that the name says, in small letters."""
        return {word.lower() for word in (*self.entities.values(), *_stem(self.path).split("_"))}


def bids_pairs(path: Path, report: Report, image: str = "") -> dict[str, tuple[Path, Path, str]]:
    """Image, label map and subject of each case by its name, such as `sub-1_ses-2`; empty if this is not BIDS.

    Args:
        path: folder of the data set.
        report: called with cases that have several images or label maps, and with images that have no label map.
        image: kind of the images to use, such as FLAIR, where there are several.
    """
    if not any(folder.is_dir() and folder.name.startswith("sub-") for folder in listing(path)):
        return {}
    files = [file for place in images_below(path) if (file := _parsed(place))]
    maps: dict[tuple[str, str, str], list[_File]] = defaultdict(list)
    images: dict[tuple[str, str], list[_File]] = defaultdict(list)
    for file in files:
        if file.kind in MASKS:
            maps[(*file.session, file.entities.get("run", ""))].append(file)
        elif file.kind not in OTHERS and file.path.relative_to(path).parts[0].startswith("sub-"):
            images[file.session].append(file)
    organs = [file for found in maps.values() for file in found if file.words & ORGANS]
    for found in maps.values():
        found[:] = [file for file in found if file not in organs] or found
    pairs: dict[str, tuple[Path, Path, str]] = {}
    for (subject, session, run), found in sorted(maps.items()):
        name = "_".join(f"{key}-{value}" for key, value in zip(KEYS, (subject, session, run), strict=True) if value)
        lesions = [file for file in found if any("lesion" in word for word in file.words)]
        candidates = [file for file in images[subject, session] if run in ("", file.entities.get("run", run))]
        if image:
            candidates = [file for file in candidates if file.kind.lower() == image.lower()]
        named = [file for file in candidates if file.kind.lower() in (lesions or found)[0].words]
        mine, drawn = _one(named or candidates, name, path, report), _one(lesions or found, name, path, report)
        if drawn and drawn in organs:
            fix = "add the label map of its objects, such as label-lesion_mask, all zero if it has none"
            report(InputError(drawn.path, "this mask is of the brain, not of an object", fix, name))
        if mine and drawn:
            pairs[name] = (mine.path, drawn.path, f"sub-{subject}")
    used = {kind for place, _, _ in pairs.values() if (file := _parsed(place)) for kind in [file.kind]}
    taken = {place for place, _, _ in pairs.values()}
    unused = [file.path.name for group in images.values() for file in group if file.kind in used]
    unused = [name for name in unused if name not in {place.name for place in taken}]
    if pairs and unused:
        problem = f"{counted(len(unused), 'image is', 'images are')} not used, without a label map: {some(unused)}"
        report(InputError(path, problem, "add it, all zero if the image has no objects", severity="warning"))
    return pairs


def _stem(path: Path) -> str:
    return split_suffix(path)[0]


def _parsed(path: Path) -> _File | None:
    *entities, kind = _stem(path).split("_")
    values = dict(part.split("-", 1) for part in entities if "-" in part)
    return _File(path, kind, values) if "sub" in values and "-" not in kind else None


def _one(files: Sequence[_File], name: str, path: Path, report: Report) -> _File | None:
    """The only file, or after a report the first of several; None if there is none."""
    if len(files) == 1:
        return files[0]
    is_map = bool(files) and files[0].kind in MASKS
    fix = "keep one of them" if is_map else "choose one with --option image=KIND, such as image=FLAIR"
    problem = f"several {'label maps' if is_map else 'images'}: {some(file.path.name for file in files)}"
    report(InputError(path, problem if files else "the label map has no image", fix, name))
    return files[0] if files else None

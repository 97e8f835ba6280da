"""Which names mean images, which mean label maps, and which of them correspond."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from boxel.datasets.lookup import MASKS, images_below
from boxel.datasets.names import below, words
from boxel.io import split_suffix

__all__ = ["CHANNEL", "IMAGE", "LABELS", "Words", "contradict", "is_mask_folder", "matched", "stem"]

IMAGE = "images?|imgs?|pictures?|photos?|raws?|ct|mri?|dicom|flair|t[12](w|ce|c)?|dwi|adc|pet|us|scans?|volumes?"
LABELS = (  # longer words before their beginnings
    "instances|labelmaps?|labels?|masks?|segmentations?|segs?|lesions?|tumou?rs?|annotations?|contours?|ground_?truth"
    "|gt|rois?|nodule_mask"
)
CHANNEL = "0000"  # of the first image in nnU-Net


class Words(NamedTuple):
    """What the user calls images and label maps; empty for the usual words.

    Attributes:
        image: the image in folders that hold several, such as FLAIR.
        images: folder of the images.
        masks: folder of the label maps, or the word for them in the names of files.
    """

    image: str = ""
    images: str = ""
    masks: str = ""

    @property
    def of_images(self) -> str:
        """A regular expression for the words for images, in lower case."""
        return re.escape(self.image.lower()) if self.image else IMAGE

    @property
    def of_masks(self) -> str:
        """A regular expression for the words for label maps, in lower case."""
        return re.escape(self.masks.lower()) if self.masks else LABELS

    def masks_below(self, path: Path) -> dict[Path, str]:
        """Image files that their names or folders call label maps, with what the names say besides."""
        maps = {}
        for file in images_below(path):
            name = stem(file).lower()
            match = re.fullmatch(rf"(?:{self.of_masks})(?:[_-]?(?P<a>.*))|(?P<b>.+)[_-](?:{self.of_masks})", name)
            folders = below(file, path).parts[:-1]
            usual = not self.masks and any(MASKS & set(words(folder)) for folder in folders)
            if match or usual or self.masks.lower() in map(str.lower, folders):
                maps[file] = (match["a"] or match["b"] or "") if match else name
        return maps


def is_mask_folder(name: str) -> bool:
    """Whether the name of a folder has a word for masks."""
    return bool(MASKS & set(words(name)) or re.fullmatch(f"(.*[_ -])?({LABELS})", name.lower()))


def stem(file: Path) -> str:
    """The name of an image file without its suffix."""
    return split_suffix(file)[0].removesuffix(".seg")


def matched(images: Sequence[str], maps: Sequence[str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The label map of each image, by their names; and the names of images that several label maps fit.

    A label map has the name of its image, also without a word for images (`p1_FLAIR`); or another word in front of the
    same rest (`img_001` and `mask_001`), if no other name has this rest; or the name of its image with more before or
    after it (`p1_lesion`), where no longer name of an image fits; or else a beginning of words that no other image and
    no other label map has (`p1_t1w` and `p1_lesion_mask`). Names that differ in a number never correspond, nor do
    names that `contradict` each other.

    Example:
        >>> matched(["p1", "p1_2", "p3_T1w"], ["p1_lesion", "p1_2_lesion", "p3_roi"])[0]
        {'p1': 'p1_lesion', 'p1_2': 'p1_2_lesion', 'p3_T1w': 'p3_roi'}
    """
    among = set(maps)
    pairs = {name: name for name in images if name in among}
    rests = _rests(images, IMAGE), _rests(maps, LABELS)
    fronts = {names[0]: rests[1][rest][0] for rest, names in rests[0].items() if len(names) == len(rests[1][rest]) == 1}
    taken = {*pairs, *pairs.values()}
    pairs |= {image: name for image, name in fronts.items() if taken.isdisjoint((image, name))}
    parts = {name: _parts(name) for name in {*images, *maps}}
    plain = {name: _plain(parts[name]) for name in images}
    fits: dict[str, list[str]] = defaultdict(list)
    taken = set(pairs.values())
    named: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for image in images:
        named[parts[image]].add(image)
        named[plain[image]].add(image)
    order = {image: number for number, image in enumerate(images)}
    for name in (name for name in maps if name not in taken):
        near = set().union(*(named.get(ends, set()) for ends in _ends(parts[name])))
        free = [i for i in sorted(near, key=order.__getitem__) if i not in pairs and not contradict(i, name)]
        sizes = {image: _size(parts[name], parts[image], plain[image]) for image in free}
        best = max(sizes.values(), default=0)
        for image in (image for image, size in sizes.items() if size == best > 0):
            fits[image].append(name)
    doubtful = {}
    for image, names in fits.items():
        usual = sorted(names, key=lambda name: _rank(parts[name]))
        first = [name for name in usual if _rank(parts[name]) == _rank(parts[usual[0]])]
        if len(first) == 1:
            pairs[image] = first[0]
        else:
            doubtful[image] = names
    taken = set(pairs.values())
    begun: dict[tuple[str, ...], tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for kind, names_of_kind in enumerate((images, maps)):
        for name in names_of_kind:
            for depth in range(1, len(parts[name]) + 1):
                begun[parts[name][:depth]][kind].add(name)
    for beginning in sorted(begun, key=lambda beginning: -len(beginning)):
        mine, drawn = begun[beginning]
        if len(mine) == len(drawn) == 1:
            (image,), (name,) = mine, drawn
            if image in pairs or image in doubtful or name in taken:
                continue
            numbered = any(_numbered(parts[each][len(beginning) :]) for each in (image, name))
            if not numbered and not contradict(image, name):
                pairs[image] = name
                taken.add(name)
    return pairs, doubtful


def contradict(image: str, label_map: str) -> bool:
    """Whether each of two names that share words says something that the other does not.

    Words for label maps say nothing about the case, nor does a word for images if the label map has none.

    Example:
        >>> contradict("p1_pre", "p1_post_mask"), contradict("p1_T1", "p1_T2_mask"), contradict("p1_T1", "p1_liver")
        (True, True, False)
    """
    ours, theirs = set(_parts(image)), set(_parts(label_map))
    said = {part for part in theirs - ours if not re.fullmatch(LABELS, part)}
    kinds = {part for part in ours - theirs if re.fullmatch(f"{IMAGE}|{CHANNEL}", part)}
    rest = ours - theirs - kinds
    return bool(ours & theirs and said and (rest or (kinds and any(re.fullmatch(IMAGE, part) for part in said))))


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in re.split(r"[\W_]+", name.lower()) if part)


def _rests(names: Iterable[str], known: str) -> dict[str, list[str]]:
    """The names by what follows a `known` word in front of them, before a number or apart; others by themselves."""
    rests: dict[str, list[str]] = defaultdict(list)
    for name in names:
        match = re.fullmatch(rf"(?:{known})(?:[_ -]+(?P<a>.+)|(?P<b>\d.*))", name.lower())
        rests[(match["a"] or match["b"]) if match else name.lower()].append(name)
    return rests


def _plain(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The parts of the name of an image without a word for images at its end."""
    return parts[:-1] if parts[1:] and re.fullmatch(f"{IMAGE}|{CHANNEL}", parts[-1]) else parts


def _size(name: tuple[str, ...], *images: tuple[str, ...]) -> int:
    """How many parts of the name of an image begin or end that of a label map; 0 if not all do."""
    for image in images:
        size = len(image)
        after, before = name[size:], name[:-size]
        if name[:size] == image and not (after and after[0].isdecimal()):
            return size
        if name[-size:] == image and not before[-1].isdecimal():
            return size
    return 0


def _ends(parts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """What the parts of a name begin and end with."""
    for size in range(1, len(parts) + 1):
        yield parts[:size]
        yield parts[-size:]


def _rank(parts: tuple[str, ...]) -> int:
    """Where several label maps fit, the one with the most usual last word is used, if it is the only one."""
    usual = ("mask", "seg", "label")
    return usual.index(parts[-1]) if parts and parts[-1] in usual else len(usual)


def _numbered(parts: Iterable[str]) -> bool:
    return any(re.search(r"\d", part) and not re.fullmatch(f"{IMAGE}|{LABELS}|{CHANNEL}", part) for part in parts)

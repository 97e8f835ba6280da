"""Images and label maps in two folders beside each other, or in one folder, for `boxel.datasets.formats.pairs`."""

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from boxel.datasets.formats.dicom_files import has_dicom
from boxel.datasets.formats.pairs_names import Words, matched, stem
from boxel.datasets.lookup import images_below
from boxel.datasets.names import below, case_ids, split_word
from boxel.datasets.problems import InputError, Report, some
from boxel.inputs.folders import listing
from boxel.io import split_suffix

__all__ = ["folders_of_parts", "same_folder", "sibling_folders"]


def sibling_folders(path: Path, report: Report, words: Words) -> dict[str, tuple[Path, Path | None]]:
    """Image and label map of each case from a folder of images and one of label maps, which may hold folders.

    Files without counterpart are reported, unless no name fits any other.
    """
    problems: list[InputError] = []
    images, labels = _folders(path, words, problems.append)
    if images is None or labels is None or (not images_below(images) and has_dicom(images)):
        return {}
    maps: dict[Path, dict[str, Path]] = defaultdict(dict)
    for file in images_below(labels):
        name = stem(file)
        mine = maps[below(file.parent, labels)]
        if name in mine:
            problem = f"{mine[name].name} has the same name"
            report(InputError(file, problem, "keep one label map per image", name))
        mine[name] = file
    files = [file for file in images_below(images) if labels not in file.parents]
    called = re.compile(rf"(^|[_-])({words.of_images})($|[_-])")
    if any(called.search(stem(file).lower()) for file in files):  # and others may be other channels
        same = {(place, name) for place, names_there in maps.items() for name in names_there}
        files = [f for f in files if called.search(stem(f).lower()) or (below(f.parent, images), stem(f)) in same]
    names = dict(zip(files, case_ids(files, images), strict=True))
    here: dict[Path, dict[str, Path]] = defaultdict(dict)
    for file in files:
        here[below(file.parent, images)][split_suffix(file)[0]] = file
    pairs: dict[str, tuple[Path, Path | None]] = {}
    alone: list[Path] = []
    for place in sorted({*here, *maps}):
        chosen, doubtful = matched(list(here[place]), list(maps[place]))
        for name, file in here[place].items():
            pairs[names[file]] = (file, maps[place].get(chosen.get(name, "")))
            if name in doubtful:
                listed = some(maps[place][other].name for other in doubtful[name])
                problem = f"its label map may be any of {listed}"
                report(InputError(file, problem, "keep one, or join them into one label map", names[file]))
                del pairs[names[file]]
        used = {*chosen.values(), *(name for others in doubtful.values() for name in others)}
        alone += [file for name, file in maps[place].items() if name not in used]
    owners: dict[Path, Path] = {}
    for name, (file, drawn) in pairs.items():
        if drawn and owners.setdefault(drawn, file) != file:
            fix = "rename one image, or choose with --option image=NAME, such as image=flair"
            report(InputError(drawn, f"{file.name} and another image have this label map", fix, name))
    bare = [name for name, (_, drawn) in pairs.items() if drawn is None]
    if bare and alone and len(bare) == len(pairs):
        shown = difflib.get_close_matches(pairs[bare[0]][0].name, [file.name for file in alone], 1, 0.0)[0]
        problem = f"no label map in {labels.name} has the name of an image in {images.name}, such as "
        problem += f"{pairs[bare[0]][0].name} (nearest: {shown})"
        report(InputError(path, problem, "call each label map like its image, with any word after it"))
        return {}
    for problem_of_folder in problems if pairs else ():
        report(problem_of_folder)
    for file in sorted(alone):
        near = _nearest(file, [pairs[name][0] for name in bare])
        problem, fix = f"the label map has no image{near}", f"add its image to {images}, or remove it"
        report(InputError(file, problem, fix, stem(file)))
    for name in bare:
        image = pairs[name][0]
        problem, fix = f"the image has no label map{_nearest(image, alone)}", "add it, all zero if there are no objects"
        report(InputError(image, problem, fix, name))
    return pairs


def _nearest(file: Path, others: Sequence[Path]) -> str:
    """The file without counterpart whose name is nearest, for a message; empty if none is near."""
    near = difflib.get_close_matches(file.name, [other.name for other in others], 1)
    return f" (the nearest name is {near[0]})" if near else ""


def folders_of_parts(path: Path, report: Report, words: Words) -> dict[str, tuple[Path, Path | None, str, str]]:
    """The pairs in train/images and train/masks, p1/images and p1/masks ..., without patient, with their part."""
    folders = [folder for folder in listing(path) if folder.is_dir()]
    parts = [folder for folder in folders if split_word(folder.name) or _holds_both(folder, words)]
    try:
        pairs_of = {folder: sibling_folders(folder, report, words) for folder in parts}
    except InputError:  # options that name a folder of the data set, not of a part
        return {}
    bare = [folder.name for folder, pairs in pairs_of.items() if not pairs and images_below(folder)]
    if bare and any(pairs_of.values()):
        problem = f"no pairs of images and label maps in {some(bare)}"
        report(InputError(path, f"{problem}: not used", "add a folder of label maps there", severity="warning"))
    counts = Counter(name for pairs in pairs_of.values() for name in pairs)
    return {
        name if counts[name] == 1 else f"{folder.name}_{name}": (*pair, "", split_word(folder.name))
        for folder, pairs in pairs_of.items()
        for name, pair in pairs.items()
    }


def _holds_both(folder: Path, words: Words) -> bool:
    """Whether a folder has both a folder that is called like images and one that is called like masks."""
    names = [inner.name.lower() for inner in listing(folder) if inner.is_dir()]
    return all(any(re.fullmatch(kind, name) for name in names) for kind in (words.of_images, words.of_masks))


def _folders(path: Path, words: Words, report: Report) -> tuple[Path | None, Path | None]:
    """The folder of the images and the one of the label maps, where there are such folders.

    A folder of label maps makes the only other folder with images, other than parts of a split, that of the images.
    """
    folders = [folder for folder in listing(path) if folder.is_dir()]
    named = re.compile(f"(.*[_ -])?({words.of_masks})")
    maps = [folder for folder in folders if named.fullmatch(folder.name.lower())]
    maps = [folder for folder in maps if images_below(folder)] or maps
    labels = maps[0] if maps else None
    if words.masks and (path / words.masks).is_dir():
        labels = path / words.masks
    elif len(maps) > 1:
        problem = f"several folders of label maps: {some(folder.name for folder in maps)}"
        report(InputError(path, problem, "choose one with --option masks=FOLDER"))
    if words.images:
        chosen = path / words.images
        if not chosen.is_dir():
            raise InputError(chosen, "no such folder", "give the folder of the images with --option images=FOLDER")
        return chosen, labels
    others = [folder for folder in folders if folder != labels]
    named_so = [f for f in others if re.fullmatch(f"(.*_)?({Words().of_images})", f.name.lower())]
    images = next((folder for folder in named_so if images_below(folder)), named_so[0] if named_so else None)
    unused = [folder.name for folder in named_so if folder != images and images_below(folder)]
    if images and unused:
        problem = f"the images in {images.name} are used, not those in {some(unused)}"
        report(InputError(path, problem, "choose with --option images=FOLDER", severity="warning"))
    if images and labels and not words.masks:
        drawn = {stem(file) for file in images_below(labels)}
        spare = [folder for folder in others if folder not in (images, *maps) and folder.name not in unused]
        spare = [f for f in spare if not split_word(f.name) and drawn & {stem(file) for file in images_below(f)}]
        if spare:
            problem = f"the label maps in {labels.name} are used, not the files in {some(f.name for f in spare)}"
            fix = f"choose with --option masks={spare[0].name}, or join them into one label map"
            report(InputError(path, problem, fix, severity="warning"))
    if images is None and labels is not None and images_below(labels):
        filled = [folder for folder in others if not split_word(folder.name) and images_below(folder)]
        images = filled[0] if len(filled) == 1 else None
    return images, labels


def same_folder(
    folder: Path, report: Report, words: Words, alone: list[Path], unused: dict[Path, str]
) -> dict[str, tuple[Path, Path]]:
    """Pairs of files of one folder, by the part of their names besides words for images and label maps.

    An image may lack such a word. Files without counterpart are added to `alone`; those that may be more label maps of
    a case, such as liver beside ct and tumor, to `unused` with that word, unless the user has chosen one.
    """
    found: dict[str, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
    plain: dict[str, list[Path]] = defaultdict(list)
    for path in listing(folder):
        name = stem(path) if split_suffix(path)[1] else path.name * path.is_dir()
        kinds = [
            (match, kind)
            for kind, known in enumerate((words.of_images, words.of_masks))
            if (match := re.fullmatch(rf"(?:{known})(?:[_-]?(?P<a>.*))|(?P<b>.+)[_-](?:{known})", name.lower()))
        ]
        if words.masks and len(kinds) > 1:  # a file that the user calls a label map is no image
            kinds = kinds[path.is_file() :]
        for match, kind in kinds:
            found[match["a"] or match["b"] or ""][kind].append(path)
        if name and not kinds and path.is_file():
            plain[name.lower()].append(path)
    pairs = {}
    for name, (images, maps) in sorted(found.items()):
        images = images or plain[name]
        maps = [file for file in maps if file.is_file()]
        if not images or not maps:
            alone += [*images, *maps]
            continue
        for files, what, fix in (
            (images, "images", "choose one with --option image=NAME, such as image=flair"),
            (maps, "label maps", "keep one of them"),
        ):
            if len(files) > 1:
                listed = some(file.name for file in files)
                report(InputError(folder, f"several {what}: {listed}", fix, name or folder.name))
        pairs[name] = (images[0], maps[0])
    used = {image for image, _ in pairs.values()}
    others = [file for files in plain.values() for file in files if file not in used]
    for file in () if words.masks else others:
        name = stem(file).lower()
        starts = [match.start() for match in re.finditer("[_-]", name) if name[: match.start()] in pairs]
        if (starts or "" in pairs) and not re.fullmatch(Words().of_images, name):
            unused[file] = name[starts[-1] + 1 :] if starts else name
    return pairs

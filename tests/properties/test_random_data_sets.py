"""Random data sets in every layout: exactly the pixels and boxes that were written, or an error for a planted fault."""

import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.properties.drawing_writers import WRITERS
from tests.properties.writers import CLASSES, TURNED, UPRIGHT, Drawn, Style, save

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset

STEMS = ("a", "b", "001", "1.2.3", "scan_0011", "IMG_0001", "Ünï cödé", "x-y", "test", "mask")
FOLDERS = ("p1", "p2", "öst", "latest")
EXTRAS = ("Thumbs.db", "desktop.ini", ".DS_Store", "._{name}", "notes.txt", "README")
NAMING = ("coco", "table", "monai", "cvat", "via", "label_studio")  # annotations that name the file of their image
NESTED = (*NAMING, "yolo", "voc", "labelme", "cvat_yolo", "pairs")  # layouts with folders below that of the images
THREE = ("table", "monai", "native", "nnunet", "pairs")  # layouts of volumes
COLOURLESS = (".nii.gz", ".nii", ".mha")


@dataclass(frozen=True)
class Planned:
    """A data set to write, and the fault that is planted in it."""

    layout: str
    pictures: tuple[Drawn, ...]
    style: Style
    link: bool = False
    decoy: bool = False  # masks of the same names in another folder
    fault: str = ""

    @property
    def has_parts(self) -> bool:
        """Whether the data set says which images are for testing."""
        return self.layout not in ("coco", "voc", "labelme", "via", "label_studio", "pairs") or (
            self.layout in ("coco", "voc") and self.style.many_files
        )

    @property
    def options(self) -> list[str]:
        return ["mode=xyzxyz", "frame=voxel"] if self.layout == "monai" else []


@st.composite
def pictures(draw, layout, ndim):
    """A picture with up to four objects, each in its own corner."""
    shape = tuple(draw(st.integers(12, 24)) for _ in range(ndim))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 100, shape).astype(np.uint8)
    boxes, labels = [], []
    for corner in range(draw(st.integers(0, 2**ndim))):
        start = np.array([(corner >> axis & 1) * (shape[axis] // 2) + 1 for axis in range(ndim)])
        room = np.array(shape) // 2 - 2
        lower = start + rng.integers(0, np.maximum(room - 2, 1))
        upper = np.minimum(lower + rng.integers(2, np.maximum(room - (lower - start), 3)), start + room)
        boxes.append((lower, upper))
        labels.append(int(rng.integers(2)))
        array[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))] = rng.integers(180, 255)
    folders = draw(st.lists(st.sampled_from(FOLDERS), max_size=2)) if layout in NESTED else []
    return Drawn(
        tuple(folders), draw(st.sampled_from(STEMS)), "", array, np.array(boxes, int).reshape(-1, 2, ndim),
        tuple(labels), draw(st.sampled_from(("train", "train", "val", "test"))),
    )  # fmt: skip


@st.composite
def plans(draw, layout, fault=False):
    ndim = draw(st.sampled_from((2, 3))) if layout in THREE else 2
    drawn = draw(st.lists(pictures(layout, ndim), min_size=2, max_size=5))
    for number, one in enumerate(drawn):
        one.array.flat[0] = number  # no two pictures are alike
    kinds = COLOURLESS if ndim == 3 else (".png", ".bmp", ".tif")
    several = layout in NAMING  # their names have suffixes, so that these may differ
    suffixes = [draw(st.sampled_from(kinds)) for _ in range(len(drawn) if several else 1)]
    capital = draw(st.booleans())
    suffixes = [suffix.upper() if capital else suffix for suffix in suffixes]
    turned = [draw(st.booleans()) and ndim == 2 and layout not in ("native", "nnunet", "pairs", "monai") for _ in drawn]
    drawn = [
        replace(one, suffix=suffixes[k % len(suffixes)], orientation=TURNED if turn and suffixes[
            k % len(suffixes)].lower() != ".bmp" else UPRIGHT)
        for k, (one, turn) in enumerate(zip(drawn, turned, strict=True))
    ]  # fmt: skip
    if layout in ("native", "nnunet", "pairs", "table", "via", "label_studio", "labelme"):  # no validation part
        drawn = [replace(one, part="train" if one.part == "val" or layout == "pairs" else one.part) for one in drawn]
    assume(any(one.part == "train" for one in drawn))
    assume(any(one.labels for one in drawn))
    # Two files of one name in one folder cannot be written; suffixes tell files apart only where they are named.
    places = [(one.part if layout in ("yolo", "cvat_yolo") else "", one.folders, one.stem.lower(),
               one.suffix.lower() if several else "") for one in drawn]  # fmt: skip
    assume(len(set(places)) == len(places))
    stems = [(one.folders, one.stem) for one in drawn if one.suffix.lower() in (".nii", ".nii.gz")]
    assume(len(set(stems)) == len(stems))  # ITK would open the other file: refused
    bare = len({one.name.lower() for one in drawn}) == len(drawn)
    if layout in ("native", "nnunet"):  # a case is one name in both parts
        assume(bare)
    paths = ["below images", "below root", "backslash", "windows"] + ["bare"] * bare
    encodings = ["utf-8", "utf-8"] + ["cp1252"] * (layout == "table")
    style = Style(
        images=draw(st.sampled_from(("images", "scans"))) if layout in NAMING else "images",
        paths=draw(st.sampled_from(paths)),
        newline=draw(st.sampled_from(("\n", "\r\n"))),
        bom=draw(st.booleans()),
        encoding=draw(st.sampled_from(encodings)),
        separator=draw(st.sampled_from((",", ";", "\t"))),
        id_type=draw(st.sampled_from((int, str))),
        declare_size=draw(st.booleans()),
        many_files=draw(st.booleans()),
        extras=frozenset(draw(st.lists(st.sampled_from(EXTRAS), max_size=3))),
    )
    if style.paths == "below images" and style.images == "scans" and layout in NAMING and not bare:
        style = replace(style, images="images")  # "p1/a.png" below a folder of any name is a guess
    decoy = draw(st.booleans()) and layout in NAMING
    if decoy and style.images == "scans" and style.paths in ("bare", "below images"):
        decoy = False  # which of two folders is meant cannot be known: that is a planted fault
    if decoy and style.paths == "bare" and any(one.folders for one in drawn):
        decoy = False
    planned = Planned(layout, tuple(drawn), style, draw(st.booleans()), decoy)
    if not fault:
        return planned
    chosen = draw(st.sampled_from(FAULTS[layout]))
    if chosen == "two candidates":  # only a name without its folder means several files
        assume(bare)
        style, planned = replace(style, paths="bare", images="scans"), replace(planned, decoy=False)
    if chosen == "other size":
        style = replace(style, declare_size=True)
    return replace(planned, style=style, fault=chosen)


FAULTS = {
    "labelme": ("missing image", "other size"),
    "cvat": ("missing image", "two candidates", "other size"),
    "cvat_yolo": ("missing image", "class beyond the names"),
    "via": ("missing image", "two candidates"),
    "label_studio": ("missing image", "two candidates", "other size"),
    "coco": ("missing image", "two candidates", "other size", "unknown class", "unmatched ids"),
    "yolo": ("class beyond the names", "labels in another folder"),
    "voc": ("missing image", "other size"),
    "table": ("missing image", "two candidates"),
    "monai": ("missing image", "two candidates"),
    "native": ("missing image", "other grid"),
    "nnunet": ("missing image", "other grid"),
    "pairs": ("other grid",),
}


def write(planned, root):
    """Write the data set; return the path to open."""
    store = root / "store" if planned.link else root / "data set"
    WRITERS[planned.layout](store, list(planned.pictures), planned.style)
    folders = sorted({file.parent for file in store.rglob("*") if file.is_file()})
    for extra in planned.style.extras:
        for folder in folders:
            name = extra.format(name=next(file.name for file in sorted(folder.iterdir()) if file.is_file()))
            (folder / name).write_bytes(b"\x00\x05\x16\x07 of no interest")
    if planned.decoy:
        for drawn in planned.pictures:
            save(store / "a_masks" / drawn.path, drawn, (drawn.array > 170).astype(np.uint8))
    plant(planned, store)
    if planned.link:  # every file and folder of the data set is a link
        (root / "data set").mkdir()
        for entry in store.iterdir():
            (root / "data set" / entry.name).symlink_to(entry, target_is_directory=entry.is_dir())
    return root / "data set"


def plant(planned, store):
    """Plant the fault."""
    first = next(one for one in planned.pictures if one.labels)
    base = store / planned.style.images
    if planned.fault == "missing image":
        names = (first.name, f"{first.stem}_0000{first.suffix}")
        images = [file for file in store.rglob("*") if file.name in names and "label" not in file.parent.name]
        next(file for file in images if planned.layout not in NAMING or file == base / first.path).unlink()
    elif planned.fault == "two candidates":
        for drawn in planned.pictures:
            save(store / "again" / drawn.path, drawn)
    elif planned.fault in ("other size", "other grid"):
        smaller = first.array[tuple(slice(0, size - 1) for size in first.array.shape)]
        place = {"coco": base / first.path, "voc": store / "JPEGImages" / first.path,
                 "pairs": store / "images" / first.path, "labelme": store / first.path, "cvat": base / first.path,
                 "label_studio": base / first.path}.get(planned.layout)  # fmt: skip
        part = "Ts" if first.part == "test" else "Tr"
        names = (first.name, f"{first.stem}_0000{first.suffix}")
        place = place or next(file for file in (store / f"images{part}").iterdir() if file.name in names)
        save(place, replace(first, orientation=UPRIGHT), smaller)
    elif planned.fault in ("unknown class", "unmatched ids"):
        for file in store.rglob("[!.]*.json"):
            values = json.loads(file.read_bytes().decode("utf-8-sig"))
            for entry in values["annotations"]:
                entry["category_id" if planned.fault == "unknown class" else "image_id"] = 77
            file.write_text(json.dumps(values))
    elif planned.fault == "class beyond the names":
        for file in store.rglob("*.txt"):
            if file.stem in {one.stem for one in planned.pictures}:
                file.write_text("".join(f"7{line[1:]}\n" for line in file.read_text("utf-8-sig").splitlines()))
    elif planned.fault == "labels in another folder":
        (store / "labels").rename(store / "labels_yolo")


def objects(boxes, labels, names):
    rows = [(names[label], *np.asarray(box, float).round(2).ravel()) for box, label in zip(boxes, labels, strict=True)]
    return sorted(rows)


def check_read_back(planned, path):
    data = open_dataset(path, options=planned.options)
    anonymous = planned.layout == "pairs"  # its objects have no classes
    expected = {}
    for one in planned.pictures:
        names = ("object",) * 2 if anonymous else CLASSES
        expected[one.array.tobytes(), one.array.shape] = objects(one.boxes, one.labels, names)
    read = {}
    for case in data.cases:
        loaded = read_case(case, data)
        (array,) = loaded.image.array
        key = array.astype(np.uint8).tobytes(), array.shape
        assert key not in read, f"{case.id} shows the pixels of another case"
        read[key] = objects(loaded.instances.boxes, loaded.instances.labels, data.classes)
        assert key in expected, f"{case.id} shows pixels that were not written"
        part = next(one.part for one in planned.pictures if (one.array.tobytes(), one.array.shape) == key)
        assert case.split == ("test" if part == "test" and planned.has_parts else "train")
    assert len({case.id for case in data.cases}) == len(data.cases)
    assert read == expected


def examples(number):
    """As many data sets in all layouts together."""
    return settings(
        max_examples=max(number // len(WRITERS), 1), deadline=None, suppress_health_check=list(HealthCheck)
    )  # fmt: skip


def read_back(planned):
    with tempfile.TemporaryDirectory() as folder:
        check_read_back(planned, write(planned, Path(folder)))


def refuse(planned):
    with tempfile.TemporaryDirectory() as folder:
        path = write(planned, Path(folder))
        with pytest.raises(ValueError, match=r".+; .+"):
            check_read_back(planned, path)


@pytest.mark.parametrize("number", [200, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("layout", sorted(WRITERS))
def test_what_was_written_is_read_back(layout, number):
    @examples(number)
    @given(plans(layout))
    def check(planned):
        read_back(planned)

    check()


@pytest.mark.parametrize("layout", sorted(WRITERS))
def test_a_planted_fault_is_an_error(layout):
    @examples(100)
    @given(plans(layout, fault=True))
    def check(planned):
        refuse(planned)

    check()


def test_an_unreadable_plan_fails(tmp_path):
    """The property can fail: pixels of another picture are noticed."""
    drawn = Drawn((), "a", ".png", np.zeros((12, 12), np.uint8), np.array([[[2, 2], [5, 5]]]), (0,))
    planned = Planned("voc", (drawn, replace(drawn, stem="b", array=drawn.array + 1)), Style())
    path = write(planned, tmp_path)
    check_read_back(planned, path)
    shutil.copy(path / "JPEGImages" / "a.png", path / "JPEGImages" / "b.png")
    with pytest.raises(AssertionError, match="pixels of another case"):
        check_read_back(planned, path)

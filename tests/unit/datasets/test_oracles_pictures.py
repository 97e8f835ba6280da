"""Real pictures and their boxes as Boxel reads them equal what other libraries, or a few plain lines, read."""

import json
from xml.etree import ElementTree

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Picture
from pycocotools import mask as coco
from pycocotools.coco import COCO

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset

from .independent import assert_same_boxes, boxes_read, instances, masks_read, table, warnings_only

pytestmark = pytest.mark.data
# The coarse types of DeepLesion from 1, as its README says.
TYPES = ("bone", "abdomen", "mediastinum", "liver", "lung", "kidney", "soft tissue", "pelvis")


def decoded(path):
    """Pixels `(c, rows, columns)` without transparency, by imagecodecs; Boxel reads these files with Pillow."""
    content = path.read_bytes()
    pixels = imagecodecs.jpeg8_decode(content) if path.suffix == ".jpg" else imagecodecs.png_decode(content)
    return np.moveaxis(pixels[..., :3], -1, 0) if pixels.ndim == 3 else pixels[None]


def test_blood_cells_have_the_pixels_of_libjpeg_and_the_boxes_of_the_xml(data):
    root = data / "blood_cells" / "BCCD"
    dataset = open_dataset(data / "blood_cells", warnings_only)
    assert {case.id for case in dataset.cases} == {file.stem for file in (root / "Annotations").glob("*.xml")}
    lists = {part: set((root / f"ImageSets/Main/{part}.txt").read_text().split()) for part in ("train", "val", "test")}
    assert {part: set(dataset.splits[0][part]) for part in lists} == lists
    for number, case in enumerate(dataset.cases):
        loaded = read_case(case, dataset)
        expected = []
        for node in ElementTree.parse(root / "Annotations" / f"{case.id}.xml").iter("object"):
            x0, y0, x1, y1 = (int(node.find("bndbox").find(key).text) for key in ("xmin", "ymin", "xmax", "ymax"))
            if x0 < x1 and y0 < y1:  # two have no extent
                expected.append((node.find("name").text, (max(y0 - 1, 0), max(x0 - 1, 0)), (y1, x1)))
        assert_same_boxes(boxes_read(loaded, dataset.classes), sorted(expected))
        if number % 10 == 0:
            np.testing.assert_array_equal(loaded.image.array, decoded(root / "JPEGImages" / f"{case.id}.jpg"))


def lesions(folder):
    """The rows of every DL_info table by picture, each once; possibly noisy ones are left out."""
    rows = {}
    for file in folder.glob("DL_info*.csv"):
        rows |= {(row["File_name"], row["Bounding_boxes"]): row for row in table(file)}
    for row in rows.values():
        if row["Possibly_noisy"] == "0":
            yield row


def test_deeplesion_has_the_hounsfield_units_of_libpng_and_the_boxes_of_the_table(data):
    folder = data / "deeplesion"
    dataset = open_dataset(folder, warnings_only, options=["classes=type"])
    pictures, expected, rows = {}, {}, {}
    for row in lesions(folder):
        name = row["File_name"].removesuffix(".png")
        path = folder / "Images_png" / name[:-4] / f"{name[-3:]}.png"
        if path.exists():
            x0, y0, x1, y1 = map(float, row["Bounding_boxes"].split(","))
            number = int(row["Coarse_lesion_type"])
            kind = TYPES[number - 1] if number > 0 else "unknown"
            pictures[name], rows[name] = path, row
            expected.setdefault(name, []).append((kind, (y0, x0), (y1, x1)))
    assert {case.id for case in dataset.cases} == set(expected)
    for case in dataset.cases:
        loaded, row = read_case(case, dataset), rows[case.id]
        assert_same_boxes(boxes_read(loaded, dataset.classes), sorted(expected[case.id]))
        across, down, _ = map(float, row["Spacing_mm_px_"].split(","))
        np.testing.assert_allclose(loaded.image.geometry.spacing, (down, across))
        assert (case.group, case.split) == (row["Patient_index"], "test" if row["Train_Val_Test"] == "3" else "train")
        hounsfield = decoded(pictures[case.id]).astype(np.int32) - 32768
        np.testing.assert_array_equal(loaded.image.array, hounsfield)


def test_deeplesion_jpg_has_the_pixels_of_libjpeg_and_the_boxes_of_the_text_files(data):
    folder = data / "deeplesion" / "jpg8bit"
    dataset = open_dataset(folder, warnings_only)
    assert {case.id for case in dataset.cases} == {file.stem for file in folder.glob("*.jpg")}
    for case in dataset.cases:
        loaded, pixels = read_case(case, dataset), decoded(folder / f"{case.id}.jpg")
        np.testing.assert_array_equal(loaded.image.array, pixels)
        rows, columns = pixels.shape[1:]
        expected = []
        for line in (folder / f"{case.id}.tru").read_text().splitlines():
            label, y0, x0, y1, x1 = map(float, line.split())
            expected.append((TYPES[int(label) - 1], (y0 * rows, x0 * columns), (y1 * rows, x1 * columns)))
        assert_same_boxes(boxes_read(loaded, dataset.classes), sorted(expected))


@pytest.fixture(scope="module")
def nuclei(data):
    """Every 10th case of the data set, with its label map as imagecodecs reads it."""
    dataset = open_dataset(data / "nuclei", warnings_only, options=["classes=nucleus"])
    counts = {row["id"]: int(row["n_objects"]) for row in table(data / "nuclei" / "meta.csv")}
    assert {case.id for case in dataset.cases} == set(counts)
    chosen = {}
    for case in dataset.cases[::10]:
        chosen[case.id] = imagecodecs.png_decode((data / "nuclei" / "labels" / f"{case.id}.png").read_bytes())
        assert len(np.unique(chosen[case.id])) == counts[case.id] + 1
    return dataset, chosen


def test_nuclei_have_the_pixels_of_libpng_and_the_boxes_and_areas_of_pycocotools(data, nuclei):
    dataset, label_maps = nuclei
    for name, label_map in label_maps.items():
        loaded = read_case(dataset[name], dataset)
        np.testing.assert_array_equal(loaded.image.array, decoded(data / "nuclei" / "images" / f"{name}.png"))
        np.testing.assert_array_equal(loaded.label_map, label_map)
        assert masks_read(loaded, dataset.classes) == sorted(instances(label_map, "nucleus"))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
@pytest.mark.parametrize("drawn", ["compressed", "runs", "polygons"])
def test_nuclei_in_a_coco_file_have_the_masks_of_pycocotools(data, nuclei, tmp_path, drawn):
    """The real masks, written by pycocotools as run lengths or as rectilinear outlines, are read as it reads them."""
    _, label_maps = nuclei
    images, annotations = [], []
    for image, (name, label_map) in enumerate(list(label_maps.items())[::3], start=1):
        rows, columns = label_map.shape
        (tmp_path / f"{name}.png").write_bytes((data / "nuclei" / "images" / f"{name}.png").read_bytes())
        images.append({"id": image, "file_name": f"{name}.png", "height": rows, "width": columns})
        for number in np.unique(label_map)[1:].tolist():
            encoded = coco.encode(np.asfortranarray(label_map == number, np.uint8))
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": image, "category_id": 3, "iscrowd": 0,
                    "bbox": coco.toBbox(encoded).tolist(), "area": int(coco.area(encoded)),
                    "segmentation": segmentation(drawn, encoded, label_map == number),
                }
            )  # fmt: skip
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations,
                                "categories": [{"id": 3, "name": "nucleus"}]}))  # fmt: skip
    reference, dataset = COCO(file), open_dataset(tmp_path)
    for image in images:
        loaded = read_case(dataset[image["file_name"][:-4]], dataset)
        masks = [reference.annToMask(entry) for entry in reference.imgToAnns[image["id"]]]
        expected = [row for number, mask in enumerate(masks, start=1) for row in instances(mask * number, "nucleus")]
        assert masks_read(loaded, dataset.classes) == sorted(expected)
        np.testing.assert_array_equal(loaded.label_map > 0, np.any(masks, axis=0))


def segmentation(drawn, encoded, mask):
    if drawn == "compressed":
        return {"size": encoded["size"], "counts": encoded["counts"].decode()}
    if drawn == "runs":
        changes = np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel(), [0]])))
        ends = np.concatenate([[0], changes, [mask.size]])
        counts = np.diff(ends)
        return {"size": list(mask.shape), "counts": (counts if counts[-1] else counts[:-1]).tolist()}
    strips = []  # one rectangle for each run of a row
    for row in np.flatnonzero(mask.any(axis=1)).tolist():
        starts = np.flatnonzero(np.diff(np.concatenate([[0], mask[row], [0]]))).reshape(-1, 2).tolist()
        strips += [[x0, row, x1, row, x1, row + 1, x0, row + 1] for x0, x1 in starts]
    return strips


def test_the_picture_of_stardist_has_the_pixels_of_pillow_and_the_boxes_of_pycocotools(data):
    folder = data / "nuclei3d" / "stardist"
    dataset = open_dataset(data / "nuclei3d", warnings_only, options=["classes=nucleus", "ndim=2"])
    (case,) = dataset.cases
    loaded = read_case(case, dataset)
    with Picture.open(folder / "img2d.tif") as picture, Picture.open(folder / "mask2d.tif") as mask:
        np.testing.assert_array_equal(loaded.image.array[0], np.array(picture))
        np.testing.assert_array_equal(loaded.label_map, np.array(mask))
        assert masks_read(loaded, dataset.classes) == sorted(instances(np.array(mask), "nucleus"))

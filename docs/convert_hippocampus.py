"""Convert the hippocampus volumes (Medical Segmentation Decathlon, CC BY-SA 4.0) to Boxel's native layout.

    python docs/convert_hippocampus.py --data DIR --out DIR

Each volume has two objects, anterior and posterior, of which the largest connected part is used, because some volumes
have stray voxels. Fold 3 (20 volumes) is the test set, fold 2 and one more volume are for validation, 60 for training.
"""

import argparse
import csv
import os
from pathlib import Path

import cc3d
import numpy as np

from boxel.datasets.formats.native_writer import write_case, write_dataset, write_splits
from boxel.io import read_image, read_label_map
from boxel.types import Image

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
DATA = Path(os.environ.get("BOXEL_DATA", Path(__file__).parents[2] / "shared" / "data"))
parser.add_argument("--data", type=Path, default=DATA / "hippocampus", help="folder of the original images")
parser.add_argument("--out", type=Path, required=True, help="folder of the new data set")
arguments = parser.parse_args()

with (arguments.data / "meta.csv").open() as file:
    rows = [row for row in csv.DictReader(file) if (arguments.data / "imagesTr" / f"{row['case']}.nii.gz").exists()]
rows.sort(key=lambda row: (row["fold"] == "3", row["fold"] == "2"))
num_test = sum(row["fold"] == "3" for row in rows)
ids = [row["case"] for row in rows]
parts = {"train": ids[:60], "val": ids[60:-num_test], "test": ids[-num_test:]}
for row in rows:
    image = read_image(arguments.data / "imagesTr" / f"{row['case']}.nii.gz")
    semantic = read_label_map(arguments.data / "labelsTr" / f"{row['case']}.nii.gz").array
    label_map = np.zeros_like(semantic)
    for label in (1, 2):
        label_map[cc3d.largest_k(semantic == label, k=1) > 0] = label
    image = Image(image.array.astype(np.float32), image.geometry)
    split = "test" if row["case"] in parts["test"] else "train"
    write_case(arguments.out, row["case"], image, label_map, {1: 0, 2: 1}, split=split)
write_splits(arguments.out, [parts])
write_dataset(arguments.out, "hippocampus", 3, ["anterior", "posterior"], ["MRI"])
print({part: len(ids) for part, ids in parts.items()}, "volumes in", arguments.out)

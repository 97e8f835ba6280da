"""Convert the nuclei images (Data Science Bowl 2018, fluorescence, CC0) to Boxel's native layout.

    python docs/convert_nuclei.py --data DIR --out DIR [--fold 0]

One fold becomes the test set, the others are for training. There is one class, with instance masks.
"""

import argparse
import csv
import os
from pathlib import Path

import numpy as np

from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.io import read_image, read_label_map
from boxel.types import Image

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
DATA = Path(os.environ.get("BOXEL_DATA", Path(__file__).parents[2] / "shared" / "data"))
parser.add_argument("--data", type=Path, default=DATA / "nuclei", help="folder of the original images")
parser.add_argument("--out", type=Path, required=True, help="folder of the new data set")
parser.add_argument("--fold", type=int, default=0, help="fold of meta.csv that becomes the test set")
arguments = parser.parse_args()

with (arguments.data / "meta.csv").open() as file:
    rows = list(csv.DictReader(file))
for row in rows:
    image = read_image(arguments.data / "images" / f"{row['id']}.png")
    grey = image.array.mean(axis=0, keepdims=True).round().astype(np.uint8)  # three equal colours
    label_map = read_label_map(arguments.data / "labels" / f"{row['id']}.png").array
    labels = {int(number): 0 for number in np.unique(label_map[label_map > 0])}
    split = "test" if int(row["fold"]) == arguments.fold else "train"
    write_case(arguments.out, row["id"], Image(grey, image.geometry), label_map, labels, split=split, suffix=".png")
write_dataset(arguments.out, "nuclei", 2, ["nucleus"], ["fluorescence"])
print(f"{len(rows)} images in {arguments.out}")

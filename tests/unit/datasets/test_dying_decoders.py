"""One picture that ends its decoder is an error of its case; the others are read."""

import sys

import numpy as np
import pytest
from PIL import Image as Picture

from boxel.datasets.quality.check import examine

DYING = (
    "import os; from boxel.io import pictures; read = pictures.read; "
    "pictures.read = lambda path, colours: os.abort() if path.stem == 'b' else read(path, colours); serve()"
)


@pytest.mark.parametrize("workers", [0, 2])
def test_check_names_the_picture_and_reads_the_others(workers, rng, tmp_path, monkeypatch):
    reading = sys.modules["boxel.io.apart"]
    own: list = []
    monkeypatch.setattr(reading, "_idle", own)
    monkeypatch.setattr(reading, "START", reading.START.replace("serve()", DYING))
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name in "abcd":
        label_map = np.zeros((32, 40), np.uint8)
        label_map[5:9, 6:12] = 1
        Picture.fromarray(rng.integers(0, 255, (32, 40), dtype=np.uint8)).save(tmp_path / "images" / f"{name}.bmp")
        Picture.fromarray(label_map).save(tmp_path / "labels" / f"{name}.png")
    examined = examine(tmp_path, workers=workers)
    (error,) = [finding for finding in examined.findings if finding.severity == "error"]
    assert error.file.stem == "b"
    assert "ended the process that read it" in error.problem
    assert [look.case.id for look in examined.looks] == ["a", "c", "d"]
    for reader in own:
        reader.end()

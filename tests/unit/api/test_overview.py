"""`boxel check --list --preview --html`: a user sees what was taken for what."""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Picture
from typer.testing import CliRunner

from boxel.api.overview import overview, preview
from boxel.cli import app
from boxel.datasets.problems import Finding
from boxel.datasets.quality.check import examine
from tests.unit.reporting.test_report import EVIL, Page, charts


@pytest.fixture
def examination(native):
    return examine(native, workers=0)


def run(*words):
    return CliRunner().invoke(app, [*map(str, words)], env={"COLUMNS": "60"})


def test_the_list_names_the_files_of_every_case(native, ndim):
    """Names are never cut, however narrow the terminal."""
    lines = run("check", native, "--list").stdout.splitlines()
    assert lines[0].split() == ["case", "image", "annotation", "split", "size", "spacing", "objects"]
    size, spacing = ("14 x 16", "1 x 0.5") if ndim == 2 else ("12 x 14 x 16", "1.5 x 1 x 0.5")
    for line, case, part, objects in (
        (lines[1], "a", "Tr", "1 benign, 1 malignant"),
        (lines[3], "c", "Tr", "none"),
        (lines[4], "d", "Ts", "1 benign"),
    ):
        cells = [cell for cell in line.split("  ") if cell]
        image, annotation, split, *rest = (cell.strip() for cell in cells[1:])
        assert cells[0] == case
        assert image == f"images{part}/{case}_0000.nii.gz"
        assert annotation.startswith(f"labels{part}/{case}.")
        assert split == {"Tr": "train", "Ts": "test"}[part]
        assert rest == [size, spacing, objects]


def test_the_list_is_in_the_json_too(native, examination):
    assert json.loads(run("check", native, "--list", "--json").stdout)["cases"] == examination.rows()


def test_a_case_that_cannot_be_read_is_in_the_list(native):
    (native / "imagesTr" / "a_0000.nii.gz").write_bytes(b"")
    result = run("check", native, "--list")
    assert result.exit_code == 2
    assert any(line.split()[:2] == ["a", "imagesTr/a_0000.nii.gz"] for line in result.stdout.splitlines())


def test_the_preview_draws_the_boxes_on_the_plane_that_shows_most(native, examination, tmp_path, ndim):
    paths = preview(examination, tmp_path / "out", 4)
    assert sorted(path.name for path in paths) == ["a.png", "b.png", "c.png", "d.png"]
    drawn = np.array(Picture.open(tmp_path / "out" / "a.png").convert("RGB")).astype(int)
    scale = 512 / 14  # rows; the captions are below
    assert drawn.shape[0] > 512 + 20
    near = [np.abs(drawn[:512] - colour).sum(axis=2) < 40 for colour in ((0x56, 0xB4, 0xE9), (0xF0, 0xB0, 0))]
    drawn_in_colour = np.argwhere(near[0] | near[1])
    # The native data set has the objects [2, 6) and [7, 11) along every axis; in 3D a plane crosses one of them.
    corners = np.array([[2, 2 * 0.5], [6, 6 * 0.5], [7, 7 * 0.5], [11, 11 * 0.5]]) * scale
    lower, upper = (corners[0], corners[3]) if ndim == 2 else (corners[0], corners[1])
    lines = drawn_in_colour[drawn_in_colour[:, 0] <= upper[0] + 2]  # class names stand below
    assert np.abs(lines.min(axis=0) - lower).max() <= 2
    assert np.abs(lines.max(axis=0) - upper).max() <= 2
    assert near[0].any()
    assert near[1].any() == (ndim == 2)  # each class has its colour; a plane of the volume crosses one object


def test_a_case_with_an_error_has_a_picture_that_names_it_and_no_boxes(native, tmp_path):
    (native / "labelsTr" / "b.json").write_text('{"instances": {"1": 7}}')
    (native / "imagesTr" / "c_0000.nii.gz").write_bytes(b"")
    examination = examine(native, workers=0)
    assert [path.name for path in preview(examination, tmp_path / "out", 2)] == ["b.png", "a.png"]
    overview(examination, tmp_path / "index.html", 2)
    page = (tmp_path / "index.html").read_text()
    assert re.findall(r"<b>(\w)</b><br>(error: )?", page) == [("b", "error: "), ("a", "")]


def test_pictures_are_not_announced_where_no_image_can_be_read(native, tmp_path):
    for file in native.glob("images*/*"):
        file.write_bytes(b"")
    result = run("check", native, "--preview", 2, "--out", tmp_path / "out")
    assert "no picture is written, because no image can be read" in result.stderr
    assert "wrote" not in result.stderr


def test_the_caption_of_a_large_picture_is_as_large_in_proportion(tmp_path):
    heights = []
    for side in (512, 2048):
        noise = np.random.default_rng(0).integers(0, 255, (side, side)).astype(np.uint8)
        for folder, array in (("images", noise), ("labels", np.eye(side, dtype=np.uint8))):
            (tmp_path / str(side) / folder).mkdir(parents=True)
            Picture.fromarray(array).save(tmp_path / str(side) / folder / "a.png")
        (path,) = preview(examine(tmp_path / str(side), workers=0), tmp_path / f"out{side}", 1)
        drawn = np.array(Picture.open(path).convert("L"))[side:]
        rows = np.flatnonzero((drawn < 128).any(axis=1))
        heights.append(rows[-1] - rows[0] + 1)
    assert 3 <= heights[1] / heights[0] <= 5


def test_the_overview_shows_pictures_distributions_and_all_cases(native, examination, tmp_path):
    overview(examination, tmp_path / "index.html", 2)
    page = Page((tmp_path / "index.html").read_text())
    assert len(page.of("figure", **{"class": "box planes"})) == 2
    for image in page.of("image"):
        assert image["href"].startswith("data:image/")
    titles = [svg["aria-label"] for svg in page.of("svg", role="img")]
    assert {"Object size", "Objects per case", "Intensity"} <= set(titles)
    assert "Spacing" not in titles  # the same for all cases
    counts = dict(line for chart in charts(page) for line in chart)
    assert max(float(text.partition(", ")[2]) for *_, text in counts["benign (3)"]) == 3
    for case in "abcd":
        assert f"labelsT{'s' if case == 'd' else 'r'}/{case}" in page.text


def test_a_finding_without_a_case_names_its_file(native, tmp_path):
    examined = examine(native, workers=0)
    finding = Finding("warning", "", native / "dataset.json", "a problem", "a fix")
    overview(replace(examined, findings=[finding]), tmp_path / "index.html", 1)
    (cell,) = re.findall(r"<th>warning</th><td>(.*?)</td>", (tmp_path / "index.html").read_text())
    assert cell == "dataset.json"


def test_every_class_is_in_the_legend_with_the_colour_of_its_boxes(native, examination, tmp_path):
    overview(examination, tmp_path / "index.html", 4)
    text = (tmp_path / "index.html").read_text()
    legend = dict(re.findall(r'fill="(#\w{6})" stroke="#000"/></svg> (\w+)</span>', text))
    assert sorted(legend.values()) == ["benign", "malignant"]
    boxes = re.findall(r'style="stroke: (#\w{6})"><title>object \d+: (\w+)<', text)
    assert boxes
    assert set(boxes) <= set(legend.items())


def test_text_of_the_data_set_is_escaped(native, tmp_path):
    head = json.loads((native / "dataset.json").read_text())
    head["labels"]["0"] = EVIL
    (native / "dataset.json").write_text(json.dumps(head))
    overview(examine(native, workers=0), tmp_path / "index.html", 4)
    assert EVIL not in (tmp_path / "index.html").read_text()


def test_pictures_and_page_are_written_to_one_folder(native, tmp_path):
    result = run("check", native, "--preview", 2, "--html", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert sorted(file.suffix for file in (tmp_path / "out").glob("[!.]*")) == [".html", ".png", ".png"]
    assert Picture.open(io.BytesIO(next((tmp_path / "out").glob("*.png")).read_bytes())).size[0] > 256
    assert not (native / "check_out").exists()

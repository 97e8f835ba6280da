"""The message about a folder whose layout is not recognised."""

import pytest

from boxel.datasets.formats import formats, open_dataset
from boxel.datasets.formats.unknown import COMMON


def message(folder, *files):
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    with pytest.raises(ValueError, match="not a data set in a layout that Boxel knows") as caught:
        open_dataset(folder)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("files", "held", "nearest"),
    [
        (["scans/a.nii.gz", "scans/b.nii.gz", "roi/c.nii.gz"], "2 .nii.gz in scans/, 1 .nii.gz in roi/", "pairs"),
        (["a.png", "b.png", "boxes.csv"], "2 .png in ./, 1 .csv in ./", "table"),
        (["pictures/a.jpg", "notes/a.xml"], "1 .xml in notes/, 1 .jpg in pictures/", "voc"),
        (["pictures/a.jpg", "a.json"], "1 .json in ./, 1 .jpg in pictures/", "coco"),
    ],
)  # fmt: skip
def test_it_says_what_the_folder_holds_and_the_nearest_layout(tmp_path, files, held, nearest):
    first, *lines, last = message(tmp_path, *files)
    assert first.endswith(f"it holds {held}")
    assert any(line.startswith(f"nearest layout: {nearest}, ") for line in lines)
    assert "docs/bring-your-data.md" in last


def test_a_file_without_permission_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda file, _: file.name != "list.json")  # root may read everything
    lines = message(tmp_path, "a.nii.gz", "list.json")
    assert [line for line in lines if "cannot be read" in line] == [
        f"{tmp_path / 'list.json'}: cannot be read; change its mode (chmod) or owner"
    ]


def test_the_advice_names_the_folders_of_images(tmp_path):
    lines = message(tmp_path, "Aufnahmen/a.nii.gz", "Umrisse/c.nii.gz")
    assert any("rename the folders (Aufnahmen/, Umrisse/) to images and labels" in line for line in lines)


def test_folders_that_have_the_usual_names_are_not_to_be_renamed(tmp_path):
    lines = message(tmp_path, "images/a.nii.gz", "labels/b1.nii.gz")
    assert "call each label map in labels/ like its image in images/; if it holds folders" in "\n".join(lines)
    assert not any("rename" in line for line in lines)


def test_folders_of_other_names_can_be_given_as_options(tmp_path):
    lines = message(tmp_path, "Scans von mir/a.png", "Umrisse/a.png")
    assert any("add --format pairs --option images=FOLDER --option masks=FOLDER" in line for line in lines)


def test_without_a_hint_the_common_layouts_are_listed_one_per_line(tmp_path):
    first, second, *rest, last = message(tmp_path, "thesis.docx")
    assert first.endswith("it holds 1 .docx in ./")
    assert second == "common layouts:"
    assert [line.split(":")[0].strip() for line in rest] == list(COMMON)
    assert "docs/bring-your-data.md" in last


def test_the_common_layouts_exist():
    assert set(COMMON) <= set(formats())


def test_an_empty_folder_is_called_empty(tmp_path):
    assert message(tmp_path)[0].endswith("it holds no files")


@pytest.mark.parametrize("file", ["boxes.xlsx", "boxes.xls", "tables/boxes.ods"])
def test_a_spreadsheet_is_to_be_saved_as_csv(tmp_path, file):
    suffix = file[file.index(".") :]
    assert any(f"Boxel reads no {suffix} files: save the table as CSV" in line for line in message(tmp_path, file))
    lines = message(tmp_path, "a.png", file)
    assert any(line.startswith("nearest layout: table, ") for line in lines)
    assert not any("save the table as CSV" in line for line in message(tmp_path, "boxes.csv"))

"""The table that `boxel check --list` prints."""

from boxel.cli.console import print_cases

HASH = "0b0d577159f0d6c266f360f7b8dfde46e16fa665138bf577ec3c6f9c70c0cd1e"


def listed(capsys, case):
    row = {"case": case, "image": f"{case}/images/{case}.png", "annotation": f"labels/{case}.txt", "split": "train"}
    print_cases([row])
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_a_hash_is_printed_once_per_line(capsys):
    _, line, note = listed(capsys, HASH)
    assert line == [HASH, "*/images/*.png", "labels/*.txt", "train"]
    assert " ".join(note) == "(* is the name of the case)"


def test_the_files_of_a_short_name_are_printed_in_full(capsys):
    _, line = listed(capsys, "P001")
    assert line == ["P001", "P001/images/P001.png", "labels/P001.txt", "train"]

"""Encodings, sizes, and texts that are made to crash or to fill the memory."""

from pathlib import Path

import pytest
import yaml

from boxel.inputs import memory
from boxel.inputs.json_values import parse_json
from boxel.inputs.problems import InputError
from boxel.inputs.tables import read_table
from boxel.inputs.texts import read_json, read_mapping, read_text, read_xml


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_of_every_unicode_encoding_is_read(encoding, tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes('{"Läsion": "日本"}'.encode(encoding))
    assert read_json(file) == {"Läsion": "日本"}


def test_a_wrong_byte_is_named_with_line_and_column(tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(b'{"a": 1,\n "b": "x\xddy"}')
    with pytest.raises(InputError, match=r"a\.json: byte 0xdd in line 2, column 9 is no text; save it as UTF-8"):
        read_json(file)
    notes = []
    assert "xÝy" in read_text(file, notes.append)
    assert [note.problem for note in notes] == ["not UTF-8; read as Windows-1252"]


@pytest.mark.parametrize("content", [b"a\0b", b"\xff\xfea", b"\x81\x8d", b"\x89PNG\r\n\x1a\n\0\0\0"])
def test_what_is_no_text_is_refused(content, tmp_path):
    file = tmp_path / "a.csv"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.csv: .*no(t a)? text"):
        read_text(file)


def test_a_text_larger_than_the_memory_allows_is_not_read(tmp_path, monkeypatch):
    limit = tmp_path / "limit"
    limit.write_text(str(2**24))
    monkeypatch.setattr(memory, "LIMITS", (limit,))
    file = tmp_path / "a.json"
    file.write_bytes(b" " * (2**24 // 10 - 1) + b"1")
    assert read_json(file) == 1
    file.write_bytes(b" " * (2**24 // 10 + 1) + b"1")
    with pytest.raises(InputError, match=r"a\.json: has 1.6 MiB, too much for 16 MiB of memory; divide it"):
        read_json(file)


def test_files_that_are_missing_or_folders_are_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.json: no such file; check the path"):
        read_json(tmp_path / "gone.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_json(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "'a' occurs twice"),
        ('{"a": 1' + "0" * 400 + "}", "401 digits"),
        ("[" * 150 + "]" * 150, "nested in more than 100 levels"),
        ("[" * 100_000, "recursion"),
        ('"\\ud800"', r"half a character \(\\ud800\)"),
        ('{"a": ["x", "\\uDFFFy"]}', "half a character"),
        ('{"a": }', "line 1 column 7"),
        ("", "line 1 column 1"),
    ],
)
def test_json_that_no_reader_can_use_is_refused(text, words, tmp_path):
    with pytest.raises(InputError, match=rf"a\.json: .*{words}.*; "):
        parse_json(text, tmp_path / "a.json")


def test_brackets_and_backslashes_in_texts_are_no_fault(tmp_path):
    file = tmp_path / "a.json"
    for text in ('["' + "[" * 500 + '"]', r'["\\ud800", "\ud83d\ude00"]'):
        file.write_text(text)
        assert read_json(file)
    assert read_json(file)[1] == "😀"


def test_keys_without_end_take_time_in_proportion(tmp_path):
    keys = ", ".join(f'"{number}": 0' for number in range(100_000))
    with pytest.raises(InputError, match="'7' occurs twice"):
        parse_json("{" + keys + ', "7": 1}', tmp_path)


ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ALIASES, r"aliases .* are not read, write the value itself: line 2, column 8"),
        ("a: [1, 2", "line 1, column 9"),
        ("a: 1" + "0" * 400, "401 digits"),
        ('a: "\\ud800"', "half a character"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("a: !!int ''", "not valid YAML"),
        ("a: !!timestamp x", "not valid YAML"),
        ("[" * 3000, "not valid YAML"),
        ("a: 1\nb:\n  c: 1\n  c: 2", r"'c' occurs twice; names must be unique: line 3, column 3"),
    ],
)
def test_yaml_that_no_reader_can_use_is_refused(text, words, tmp_path):
    file = tmp_path / "data.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=rf"data\.yaml: .*{words}"):
        read_mapping(file)


def test_whole_numbers_in_yaml_are_decimal(tmp_path):
    (tmp_path / "DATA.YAML").write_text("{a: 0100, b: -1_000, 08: 1}")
    assert read_mapping(tmp_path / "DATA.YAML") == {"a": 100, "b": -1000, "08": 1}


def test_other_yaml_is_read_as_before(tmp_path):
    values = {"names": ["a", "b"], "nc": 2, "path": "../x", "on": True, "ratio": 0.5, 3: None}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(values))
    assert read_mapping(tmp_path / "data.yaml") == values


BOMB = '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;&x;">]><a>&y;</a>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_with_entities_is_refused(encoding, tmp_path):
    file = tmp_path / "a.xml"
    file.write_bytes(BOMB.encode(encoding))
    with pytest.raises(InputError, match=r"a\.xml: defines entities, which are not read"):
        read_xml(file)


def test_xml_that_is_damaged_is_named_with_line_and_column(tmp_path):
    file = tmp_path / "a.xml"
    file.write_text("<a>\n<b>\n</a>")
    with pytest.raises(InputError, match=r"a\.xml: not valid XML .*line 3, column 2"):
        read_xml(file)
    file.write_text('<!DOCTYPE annotation SYSTEM "x.dtd"><annotation xmlns="y"><b/></annotation>')
    assert [node.tag for node in read_xml(file).iter()] == ["annotation", "b"]


def test_a_cell_of_a_table_has_no_limit(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text(f'name,points\na,"{"1 2 " * 100_000}"\n')
    assert len(read_table(file)[0]["points"]) == 400_000 - 1


def test_a_problem_crosses_processes_whole(tmp_path):
    import pickle

    problem = pickle.loads(pickle.dumps(InputError(tmp_path, "is odd", "mend it", "case", "warning")))
    assert (problem.file, problem.problem, problem.case, problem.severity) == (tmp_path, "is odd", "case", "warning")
    assert str(problem) == f"{tmp_path}: is odd; mend it"


def test_what_a_message_quotes_is_never_all_of_a_large_file():
    error = InputError(Path("a.csv"), f"image {'9' * 10**6} is not there", f"add {'9' * 10**6}.png")
    assert len(str(error)) < 2100
    assert str(error).startswith("a.csv: image 999")
    assert " is not there; add 999" in str(error)
    assert str(error).endswith("999.png")

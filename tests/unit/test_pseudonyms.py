"""Pseudonyms: the same patient has the same name in a folder, and nobody else can find out who it is."""

import stat

import pytest

from boxel.pseudonyms import SALT, pseudonyms

ROE = "Jane Roe"


def test_a_patient_has_one_pseudonym_in_a_folder_and_another_one_elsewhere(tmp_path):
    first, again, elsewhere = (pseudonyms([ROE], tmp_path / name, "x.json")[ROE] for name in ("a", "a", "b"))
    assert first == again != elsewhere
    assert "Jane" not in first
    both = pseudonyms([ROE, "John Doe", ""], tmp_path / "a", "x.json")
    assert both[ROE] == first != both["John Doe"]
    assert both[""] == ""


def test_the_salt_is_random_and_for_its_owner_alone(tmp_path):
    for name in "ab":
        pseudonyms([ROE], tmp_path / name, "x.json")
    salts = [tmp_path / name / SALT for name in "ab"]
    assert salts[0].read_bytes() != salts[1].read_bytes()
    assert [stat.S_IMODE(salt.stat().st_mode) for salt in salts] == [0o600, 0o600]
    salts[0].write_text("")
    with pytest.raises(ValueError, match="is cut short"):
        pseudonyms([ROE], tmp_path / "a", "x.json")


def test_identifiers_are_kept_on_demand_and_that_is_said(tmp_path, caplog):
    assert pseudonyms([ROE, ""], tmp_path, "x.json", keep=True) == {ROE: ROE, "": ""}
    assert caplog.messages == [f"{tmp_path}: the identifiers of 1 group (patients) are kept, in x.json"]
    assert pseudonyms([""], tmp_path, "x.json") == {"": ""}
    assert not list(tmp_path.iterdir())

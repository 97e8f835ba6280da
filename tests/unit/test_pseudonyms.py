"""Pseudonyms: the same patient has the same name in a folder, and nobody else can find out who it is."""

import stat

import pytest

from boxel.pseudonyms import SALT, pseudonyms


def test_a_patient_has_one_pseudonym_in_a_folder_and_another_one_elsewhere(tmp_path):
    first, again, elsewhere = (pseudonyms(tmp_path / name)("Jane Roe") for name in ("a", "a", "b"))
    assert first == again != elsewhere
    assert "Jane" not in first
    assert pseudonyms(tmp_path / "a")("John Doe") != first
    assert pseudonyms(tmp_path / "a")("") == ""


def test_the_salt_is_random_and_for_its_owner_alone(tmp_path):
    for name in "ab":
        pseudonyms(tmp_path / name)
    salts = [tmp_path / name / SALT for name in "ab"]
    assert salts[0].read_bytes() != salts[1].read_bytes()
    assert [stat.S_IMODE(salt.stat().st_mode) for salt in salts] == [0o600, 0o600]
    salts[0].write_text("")
    with pytest.raises(ValueError, match="is cut short"):
        pseudonyms(tmp_path / "a")


def test_identifiers_are_kept_on_demand(tmp_path):
    assert pseudonyms(tmp_path, keep=True)("Jane Roe") == "Jane Roe"
    assert not list(tmp_path.iterdir())

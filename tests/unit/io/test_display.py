"""How images, classes and texts look in pictures."""

from pathlib import Path

import numpy as np
import pytest

from boxel.io import display
from boxel.io.display import class_colour, drawable, fit_text, get_font, to_picture, visible_channels, window_of


def test_a_colour_picture_is_shown_in_its_colours(ndim):
    array = np.zeros((3, *[4] * ndim), np.float32)
    array[0] += 200
    array[2] += 30
    channels = visible_channels(array, [Path("a.png")])
    plane = channels[(slice(None), *[0] * (ndim - 2))]
    assert to_picture(plane, window_of(channels)).getpixel((1, 1)) == (200, 0, 30)


@pytest.mark.parametrize("files", [["a.nii.gz"], ["a_0000.png", "a_0001.png", "a_0002.png"]])
def test_three_measured_channels_are_not_taken_for_colours(files):
    array = np.arange(48, dtype=np.float32).reshape(3, 4, 4)
    channels = visible_channels(array, [Path(file) for file in files])
    assert np.array_equal(channels, array[:1])
    assert to_picture(channels, window_of(channels)).mode == "L"


@pytest.mark.parametrize("text", ["Gefäß", "œdème", "żyła", "όγκος", "сосуд"])
def test_letters_of_european_scripts_are_drawn(text):
    font = get_font(20)
    missing = bytes(font.getmask("\uffff"))
    for letter in text:
        assert bytes(font.getmask(letter)) != missing


@pytest.fixture
def no_other_fonts(monkeypatch):
    monkeypatch.setattr(display, "upright_fonts", list)
    display._font_file.cache_clear()
    yield
    display._font_file.cache_clear()


def test_letters_that_no_font_has_are_shown_by_their_codes(no_other_fonts):
    """A row of empty boxes would look the same for every class."""
    assert drawable("Gefäß \u5f71") == "Gefäß \\u5f71"
    assert fit_text("\u5f71", " 0.93", 12, 200) == "\\u5f71 0.93"


def test_an_installed_font_with_the_letters_is_used(monkeypatch):
    """A stand-in for a font with Chinese letters: any font counts as having them."""
    other = str(Path(get_font(12).path).with_name("STIXGeneral.ttf"))
    monkeypatch.setattr(display, "lacking", lambda file, codes: set() if file == other else codes - {ord("a")})
    monkeypatch.setattr(display, "upright_fonts", lambda: [("damaged", "/nowhere.ttf"), ("STIX", other)])
    display._font_file.cache_clear()
    assert get_font(12, "\u5f71").path == other
    assert drawable("\u5f71") == "\u5f71"
    assert get_font(12, "a").path != other
    display._font_file.cache_clear()


def test_the_end_of_a_long_name_gives_way_to_the_score():
    assert fit_text("Gefäß", " 0.93", 12, 200) == "Gefäß 0.93"
    shortened = fit_text("a very long name of a class", " 0.93", 12, 100)
    assert shortened.endswith("… 0.93")
    assert shortened.startswith("a ve")
    assert get_font(12).getlength(shortened) <= 100


def test_eight_classes_have_different_colours():
    assert len({class_colour(label) for label in range(8)}) == 8

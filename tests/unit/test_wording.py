"""Numbers in words."""

import pytest

from boxel.wording import time_in_words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.02531, "0.0253 s"), (119.4, "119 s"), (750, "12.5 min"), (7200, "2 h"), (86400, "24 h")],
)
def test_a_duration_is_in_the_largest_unit_that_it_has_twice(seconds, text):
    assert time_in_words(seconds) == text

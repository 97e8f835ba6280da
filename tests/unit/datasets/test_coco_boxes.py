"""The short way for the many boxes of a COCO file makes the same objects as the reader, and leaves doubts to it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxel.datasets.formats.coco import Options, _Entry, _object
from boxel.datasets.formats.coco_boxes import plain_box
from boxel.datasets.problems import InputError

LABELS = {1: 0, 2: 1, "x": 2}
odd = st.sampled_from([None, True, "1", "", "nan", [], {}, float("nan"), float("inf"), -0.0, 10**400, 1e308, 2.0])
numbers = st.integers(-3, 60) | st.floats(-3, 60) | st.sampled_from([0, 4, 5.0])
boxes = st.lists(numbers, min_size=4, max_size=4) | st.lists(numbers | odd, min_size=3, max_size=5) | odd
flags = st.sampled_from([0, 0, 0, None, 1, "0", "1", False, True, 0.0, "maybe", []])
ANNOTATIONS = st.fixed_dictionaries(
    {"id": st.integers(0, 9), "category_id": st.sampled_from([1, 1, 2]) | odd, "bbox": boxes},
    optional={"area": numbers | odd, "iscrowd": flags, "ignore": flags,
              "segmentation": st.sampled_from([None, [], [[1, 1, 9, 1, 9, 9]], {"counts": "1", "size": [2, 2]}, 0])},
)  # fmt: skip


@given(annotation=ANNOTATIONS)
def test_it_makes_what_the_reader_makes_and_what_needs_a_message_is_left_to_the_reader(annotation):
    short = plain_box(annotation, LABELS)
    if short is None:
        return
    said: list[InputError] = []
    image = _Entry(Path("a.json"), Path("a.png"), [annotation], LABELS, "train", None)
    whole = _object(image, "a", annotation, said.append, Options())
    assert (type(short), repr(short)) == (type(whole), repr(whole))
    assert not said


@pytest.mark.parametrize(
    "annotation",
    [{}, {"area": 12}, {"area": 12.5, "iscrowd": 0, "ignore": 0, "segmentation": []}, {"iscrowd": None, "area": None}],
)
def test_the_usual_ones_take_it(annotation):
    assert plain_box({"category_id": 1, "bbox": [1, 2.5, 3, 4], **annotation}, LABELS) is not None

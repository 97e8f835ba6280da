"""Which images are unlike the training images, and what is said about them."""

from dataclasses import replace

import numpy as np
import pytest

from boxel.api.detector import Detector
from boxel.consolidation import ConsolidateConfig
from boxel.inference.config import PredictConfig
from boxel.io import read_image
from boxel.preparation.measure import measure
from boxel.preparation.training_images import TrainingImages, describe
from boxel.types import Geometry, Image, Normalisation
from unit.builders import make_task


@pytest.fixture
def known(truth):
    """The training images of a small data set, its channel named CT."""
    data, cases = truth
    return TrainingImages.of(measure(data, workers=0)), cases["d"].image, data["d"].channels[0]


def test_a_held_out_image_differs_in_nothing(known):
    training, image, file = known
    assert training.modalities == ("CT",)
    assert training.differences(describe(image, file)) == []


def turned(image):
    flipped = (-np.asarray(image.geometry.direction)).tolist()
    return replace(image, geometry=replace(image.geometry, direction=tuple(map(tuple, flipped))))


def coarser(image):
    return replace(image, geometry=replace(image.geometry, spacing=tuple(2 * s for s in image.geometry.spacing)))


def longer(image):
    array = np.concatenate([image.array] * 4, axis=1)
    return Image(array, Geometry.plain(array.shape[1:], image.geometry.spacing))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (turned, "axes towards "),
        (coarser, "spacing "),
        (longer, "size "),
        (lambda image: replace(image, array=image.array + 2000), "1 % of the values below "),
        (lambda image: replace(image, array=image.array * 20), "1 % of the values below -"),
    ],
)
def test_an_image_of_another_kind_differs_in_one_thing(known, change, says):
    training, image, file = known
    [difference] = training.differences(describe(change(image), file))
    assert difference.startswith(says)
    assert ", not " in difference


def test_values_are_compared_as_the_network_sees_them(truth):
    """An image that is normalised by itself may have any scale, but not another distribution."""
    data, cases = truth
    image, file = cases["d"].image, data["d"].channels[0]
    rules = [Normalisation(kind="z_score")] * len(data.channels)
    training = TrainingImages.of(measure(data, workers=0), rules)
    brighter = replace(image, array=500 * image.array + 2000)
    assert training.differences(describe(brighter, file)) == []
    array = np.where(image.array > np.quantile(image.array, 0.2), image.array.max(), image.array)
    [difference] = training.differences(describe(replace(image, array=array), file))
    assert " of their range from the median, not " in difference


@pytest.fixture
def series(tmp_path):
    pytest.importorskip("pydicom")
    from unit.export.test_dicom import ORIENTATIONS, write_series

    return write_series(tmp_path / "series", ORIENTATIONS["plain"], Modality="MR", BodyPartExamined="KNEE")


def test_another_modality_is_an_error_unless_it_is_only_a_difference(series):
    image = read_image(series)
    about = describe(image, series)
    assert (about["modality"], about["body_part"], about["orientation"]) == ("MR", "KNEE", "SPL")
    training = TrainingImages(modalities=("CT",), body_parts=("CHEST",))
    detector = Detector(make_task(3), [], PredictConfig(), ConsolidateConfig(), training_images=training)
    [warning] = detector.differences(image, series)
    assert warning == "unlike the training images: modality MR, not CT; body part KNEE, not CHEST"
    with pytest.raises(ValueError, match="series: modality MR, but the run was trained on CT; add --force"):
        detector.differences(image, series, modality=False)
    unknown = Detector(make_task(3), [], PredictConfig(), ConsolidateConfig())
    assert unknown.differences(image, series, modality=False) == ()


def test_a_difference_is_said_in_plain_numbers(known):
    _, image, file = known
    same, low, high = describe(image, file) | {"spacing": (2.0,) * 3}, (9.0,) * 5, (82.351,) * 5
    training = TrainingImages(spacing=((1.0, 1.0),) * 3, intensities=[tuple(zip(low, high, strict=True))])
    assert training.differences(same | {"intensities": ((15920.4,) * 5,)}) == [
        "spacing 2 x 2 x 2, not 1 x 1 x 1",
        "1 % of the values below 15920, not 9 to 82.35",
    ]

"""Every number in a record of settings has a range, and one outside of it is refused by name, value and range."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from pydantic import Field

import boxel
from boxel.config import Config
from boxel.experiments.grid import REPEATED
from boxel.experiments.registry import EXPERIMENTS
from boxel.experiments.sources import DataFolder
from boxel.ranges import bounds
from boxel.recipes import Experiment, get_recipe, recipes

# Numbers that may be any, and why.
ANY = {
    "Normalisation.lower": "intensities have any sign",
    "Normalisation.upper": "intensities have any sign",
    "Normalisation.mean": "intensities have any sign",
    "Intensity.mean": "intensities have any sign",
    "Intensity.minimum": "intensities have any sign",
    "Intensity.percentile_00_5": "intensities have any sign",
    "Intensity.median": "intensities have any sign",
    "Intensity.percentile_99_5": "intensities have any sign",
    "Intensity.maximum": "intensities have any sign",
    "_Measurement.sample": "intensities have any sign",
    "CaseFile.scales": "intensities have any sign",
    "CaseFile.fill": "intensities have any sign",
    "PlanConfig.means": "intensities have any sign",
    "PlanConfig.window": "intensities have any sign; a validator puts the ends in order",
    "CaseRecord.intensities": "intensities have any sign",
    "TrainingImages.intensities": "intensities have any sign",
    "Calibration.offset": "a logit has any sign",
    "CaseFile.boxes": "corners may lie outside of the image",
    "CaseFile.ignored": "corners may lie outside of the image",
    "CaseFile.original_boxes": "corners may lie outside of the image",
    "CaseFile.source": "sizes and times of files, as the system gives them",
    "CaseFile.arrays": "sizes of files, as the system gives them",
    "_Measurement.source": "sizes and times of files, as the system gives them",
    "Ranked.score": "a metric, of which a plug-in may have any",
    "Options.class_from": "a number in a table of the user's",
    "Claim.better": "values of axes, of which an experiment may have any",
    "Claim.worse": "values of axes, of which an experiment may have any",
    "Claim.where": "values of axes, of which an experiment may have any",
    "Claim.minus": "values of axes, of which an experiment may have any",
}


def records(kind: type[Config] = Config) -> Iterator[type[Config]]:
    for record in kind.__subclasses__():
        yield record
        yield from records(record)


def of_boxel() -> list[type[Config]]:
    for module in pkgutil.walk_packages(boxel.__path__, "boxel."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = {f"{record.__module__}.{record.__name__}": record for record in records()}
    return [found[name] for name in sorted(found) if name.startswith("boxel.")]


def is_free(annotation: Any) -> bool:
    """Whether an annotation has a number without a range."""
    if annotation in (int, float):
        return True
    if get_origin(annotation) is Literal:
        return False
    if get_origin(annotation) is Annotated:
        number, *limits = get_args(annotation)
        return is_free(number) and not any(bounds(None, tuple(limits)))
    return any(map(is_free, get_args(annotation)))


@pytest.mark.parametrize("record", of_boxel(), ids=lambda record: f"{record.__module__}.{record.__name__}")
def test_every_number_has_a_range_or_a_reason_to_have_none(record):
    for name, field in record.model_fields.items():
        ranged = any(bounds(None, tuple(field.metadata)))
        if f"{record.__name__}.{name}" in ANY:
            assert is_free(field.annotation), "it has a range: take it from the list"
            assert not ranged
        else:
            assert ranged or not is_free(field.annotation), f"{name}: give it a range, or ANY the reason"


@pytest.mark.parametrize(
    ("free", "annotation"),
    [
        (True, int | None),
        (True, tuple[float, ...]),
        (True, int | tuple[Annotated[int, Field(ge=1)], ...]),
        (True, Annotated[tuple[int, ...], Field(min_length=1)]),
        (False, dict[str, Annotated[float, Field(gt=0)]] | None),
        (False, Literal[1, 2] | bool | str),
    ],
)
def test_the_walk_finds_numbers_inside_other_types(free, annotation):
    assert is_free(annotation) == free


REFUSED = {
    "train.steps=0": "greater than or equal to 1",
    "train.validate_every=0": "greater than or equal to 1",
    "train.save_every=0": "greater than or equal to 1",
    "train.keep=0": "greater than or equal to 1",
    "train.devices=0": "greater than or equal to 1",
    "train.batch_size=0": "greater than or equal to 1",
    "train.num_workers=-1": "greater than or equal to 0",
    "train.validation_cases=0": "greater than or equal to 1",
    "train.max_seconds=-1": "greater than 0",
    "train.clip_norm=-1": "greater than or equal to 0",
    "train.lr=-1": "range: 0 to 1000000.0",
    "train.average=1.5": "range: 0 to below 1",
    "train.augment.mirror=1.5": "range: 0 to 1",
    "train.augment.gamma=-1": "range: 0 to 10",
    "train.augment.scale=[0,1]": "greater than or equal to 0.01",
    "train.augment.scale=[2,1]": "smallest magnification comes first",
    "train.sampler.foreground=-0.1": "range: 0 to 1",
    "plan.context=-1": "range: 0 to 100",
    "plan.patch_size=[0,32]": "greater than 0",
    "plan.anchors=[[[-4,4]]]": "greater than 0",
    "predict.overlap=1": "range: 0 to below 1",
    "predict.scales=[1,-1]": "range: above 0 to 16",
    "consolidate.iou_threshold=2": "range: 0 to 1",
    "model.backbone.start_filters=0": "range: 1 to 65536",
    "model.neck.filters=0": "range: 1 to 65536",
    "model.roi.pool_size=0": "greater than 0",
    "model.rpn.min_score=2": "range: 0 to 1",
    "model.rpn.matcher.candidates=0": "greater than 0",
    'model.rpn.matcher={"type":"iou","positive":0.2,"negative":0.4}': "negative=0.4 is above positive=0.2",
    "model.rpn.class_loss.alpha=-1": "range: 0 to 1",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_a_setting_out_of_its_range_is_refused_by_name_value_and_range(setting):
    key = setting.partition("=")[0]
    with pytest.raises(ValueError, match="override: ") as error:
        get_recipe("mask_rcnn").override([setting])
    message = str(error.value)
    assert key in message
    assert REFUSED[setting] in message
    assert "(given: " in message


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400"])
@pytest.mark.parametrize(
    "setting", ["train.lr={}", "train.max_seconds={}", "predict.scales=[{}]", "plan.window=[0,{}]"]
)
def test_a_number_that_is_not_finite_is_refused(setting, value):
    with pytest.raises(ValueError, match=rf"{setting.partition('=')[0]}.*finite number"):
        get_recipe("mask_rcnn").override([setting.format(value)])


@pytest.mark.parametrize("digits", [20, 400, 5000])
@pytest.mark.parametrize("key", ["train.steps", "train.lr", "seed", "train.augment.scale"])
def test_a_number_of_many_digits_is_refused_by_name(tmp_path, key, digits):
    number = "1" + (digits - 1) * "0"
    value = f"[1,{number}]" if key.endswith("scale") else number
    with pytest.raises(ValueError, match=key.rpartition(".")[2]):
        get_recipe("retina_net").override([f"{key}={value}"])
    file = tmp_path / "mine.json"
    file.write_text(get_recipe("retina_net").to_json().replace('"seed": 0', f'"seed": {number}'))
    with pytest.raises(ValueError, match=r"mine\.json: .*(digits|64 bits)"):
        get_recipe(file)
    with pytest.raises(ValueError, match="seed"):
        Experiment(**{**get_recipe("retina_net").to_dict(), "seed": 10 ** (digits - 1)})


@pytest.mark.parametrize("name", sorted(recipes()))
def test_every_recipe_is_within_the_ranges(name):
    """Also where a recipe was made by `model_copy`, which checks nothing."""
    experiment = get_recipe(name)
    assert Experiment.from_dict(experiment.to_dict()) == experiment


PRESETS = [(name, preset) for name, entry in EXPERIMENTS.items() for preset in entry.presets]


@pytest.mark.parametrize(("name", "preset"), PRESETS, ids=[f"{name}-{preset}" for name, preset in PRESETS])
def test_every_row_of_the_experiments_is_within_the_ranges(name, preset):
    entry = EXPERIMENTS[name]
    grid = entry.build(preset, DataFolder(path="/data") if entry.takes_data else None)
    rows = {tuple((axis, values[axis]) for axis in values if axis not in REPEATED): values for values in grid}
    assert rows
    for values in rows.values():
        experiment = grid.cell(values).experiment
        assert Experiment.from_dict(experiment.to_dict()) == experiment

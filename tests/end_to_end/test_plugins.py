"""Models, readers and export formats from a file: through the command line, kept in the run, never run unasked."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import boxel
from boxel import plugins
from boxel.api.run_plugins import used_plugins
from boxel.export.boxel_json import read_predictions
from boxel.plugins import Registry, load_plugin
from tests.end_to_end.commands import boxel as command
from tests.end_to_end.commands import refused
from tests.end_to_end.test_models_verbs import SET

EXAMPLES = Path(__file__).parents[2] / "examples"
MODEL, READER, FORMAT, METRIC = (EXAMPLES / f"my_{what}.py" for what in ("model", "dataset", "format", "metric"))
RECIPE = ("--recipe", "retina_unet_small", "--model", "my_model", *SET)


@pytest.fixture(scope="module", params=[2, 3], ids=["2d", "3d"])
def trained(request, tmp_path_factory):
    """A run of the example model, trained on the command line."""
    root = tmp_path_factory.mktemp("plugins")
    boxel.make_toy(root / "data", num_train=4, num_val=1, num_test=1, ndim=request.param, size=32)
    command("prepare", root / "data", "--out", root / "work", "--recipe", "retina_unet_small", *SET)
    command("train", root / "work", "--out", root / "run", "--plugin", MODEL, *RECIPE)
    return root


def test_a_model_from_a_file_trains_and_predicts(trained, tmp_path):
    images = trained / "data" / "imagesTs"
    command(
        "predict", trained / "run", images, "--plugin", MODEL, "--plugin", FORMAT, "--to", "my_format",
        "--set", "model.min_score=0", "--set", "consolidate.min_score=0", "--out", tmp_path / "p",
    )  # fmt: skip
    assert any(len(prediction.detections) for prediction in read_predictions(tmp_path / "p"))
    command("convert", tmp_path / "p", "--plugin", FORMAT, "--to", "my_format", "--out", tmp_path / "texts")
    texts = {file.name: file.read_text() for file in (tmp_path / "texts").glob("*.txt")}
    assert texts == {file.name: file.read_text() for file in (tmp_path / "p" / "my_format").iterdir()}
    same = ("--out", tmp_path / "e", "--resamples", 0, "--json")
    own = json.loads(command("evaluate", tmp_path / "p", trained / "data", *same).stdout)
    read_back = ("evaluate", tmp_path / "texts", trained / "data", "--plugin", FORMAT, *same)
    assert json.loads(command(*read_back).stdout)["AP@0.10"] == pytest.approx(own["AP@0.10"])


def test_the_examples_pass_the_public_checks():
    for file in (MODEL, FORMAT):
        load_plugin(file)
    boxel.testing.check_model(boxel.ModelConfig.of_parts("my_model", {}))
    boxel.testing.check_exporter("my_format")


def test_a_run_keeps_a_copy_of_the_model_and_names_nothing_else(trained):
    [(name, record)] = json.loads((trained / "run" / "plugins.json").read_text()).items()
    assert (name, record["registers"]) == ("my_model.py", ["Model: my_model"])
    assert (trained / "run" / "plugins" / name).read_bytes() == MODEL.read_bytes()


def test_training_resumes_with_the_same_file_only(trained, tmp_path):
    command("train", trained / "work", "--out", trained / "run", "--trust", *RECIPE)
    changed = tmp_path / "my_model.py"
    changed.write_text(MODEL.read_text() + "\n# another version\n")
    arguments = ("train", trained / "work", "--out", trained / "run", "--plugin", changed, *RECIPE)
    refused(*arguments, says="another version of the plug-in my_model.py")


@pytest.mark.parametrize("verb", ["predict", "report", "train"])
def test_the_plug_in_of_a_run_folder_is_not_run_unasked(trained, tmp_path, verb):
    ran = tmp_path / "ran"
    run = tmp_path / "run"
    run.mkdir()
    for file in (trained / "run").glob("*.json"):
        (run / file.name).write_text(file.read_text())
    (run / "plugins").mkdir()
    attack = f"open({str(ran)!r}, 'w').close()\n"
    (run / "plugins" / "my_model.py").write_text(attack)
    arguments = {
        "predict": ("predict", run, trained / "data" / "imagesTs", "--out", tmp_path / "p"),
        "report": ("report", run),
        "train": ("train", trained / "work", "--out", run, *RECIPE),
    }[verb]
    both = "is not run unasked; give the file with --plugin my_model.py, or run the copy in the run folder with --trust"
    refused(*arguments, says="unknown model 'my_model'" if verb == "train" else both)
    # Not even with --trust, unless it is the recorded file.
    refused(*arguments, "--trust", says="was changed after it was recorded")
    assert not ran.exists()


def test_a_trusted_run_loads_in_python(trained):
    with pytest.raises(ValueError, match="trust=True"):
        boxel.load(trained / "run")
    detector = boxel.load(trained / "run", trust=True)
    assert type(detector.models[0]).__name__ == "MyModel"
    assert boxel.load(trained / "run").fingerprint == detector.fingerprint


def test_another_version_of_a_plug_in_predicts_with_a_warning_and_another_fingerprint(trained, tmp_path):
    recorded = boxel.load(trained / "run", trust=True).fingerprint
    plugins._plugins = {}
    for registry in Registry.known:
        registry.pop("my_model", None) if "my_model" in registry else None
    changed = tmp_path / "renamed.py"
    changed.write_text(MODEL.read_text() + "\n# another version\n")
    load_plugin(changed)
    with pytest.warns(UserWarning, match="differs from .*my_model.py, with which the run was trained"):
        assert boxel.load(trained / "run").fingerprint != recorded


def test_a_metric_from_a_file_has_intervals_classes_and_a_test(trained, tmp_path):
    images = trained / "data" / "imagesTs"
    command("predict", trained / "run", images, "--plugin", MODEL, "--out", tmp_path / "p")
    given = (trained / "data", "--plugin", METRIC, "--resamples", 20)
    shown = command("evaluate", tmp_path / "p", *given, "--out", tmp_path / "e").stdout
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert {"F2@0.10", "F2@0.10/ci95", "F2@0.50/disc"} <= metrics.keys()
    assert "F2@0.50" in shown
    compared = json.loads(command("compare", tmp_path / "p", tmp_path / "p", *given, "--json").stdout)
    assert compared["metrics"]["F2@0.10"]["difference"] == 0


@pytest.mark.parametrize("trained", [2], indirect=True, ids=["2d"])
def test_an_error_in_a_plug_in_is_one_line_that_names_its_place(trained, tmp_path):
    images = trained / "data" / "imagesTs"
    command("predict", trained / "run", images, "--plugin", MODEL, "--out", tmp_path / "p")
    p, data, file = tmp_path / "p", trained / "data", tmp_path / "zz.py"
    file.write_text(
        "import boxel\ndef fail(*_):\n    raise KeyError('x')\n"
        "boxel.register_metric('zz', fail)\nboxel.register_export('zz', fail)\n"
    )
    given = ("--plugin", file)
    says = f"metric 'zz': plug-in {file}:3: KeyError: 'x'"
    refused("evaluate", p, data, "--out", tmp_path / "e", *given, says=says)
    refused("compare", p, p, data, *given, says=says)
    refused("convert", p, "--to", "zz", "--out", tmp_path / "c", *given, says=f"boxel: plug-in {file}:3: KeyError: 'x'")
    assert not (tmp_path / "e").exists()
    assert not (tmp_path / "c").exists()
    file.write_text("import boxel\nboxel.register_metric('AP', len)\n")
    says = f"plug-in {file}:2: ValueError: metric name 'AP': Boxel computes a metric of this name itself; choose"
    refused("models", *given, says=says)


@pytest.mark.parametrize("trained", [2], indirect=True, ids=["2d"])
def test_the_configuration_of_a_run_as_a_recipe_says_which_plug_in_it_needs(trained):
    config = trained / "run" / "config.json"
    copy = trained / "run" / "plugins" / "my_model.py"
    arguments = ("prepare", trained / "data", "--out", trained / "work", "--recipe", config)
    refused(*arguments, says=f"this run used plug-ins: add --plugin {copy}, if you trust that code")
    command(*arguments, "--plugin", copy)


@pytest.mark.parametrize("trained", [2], indirect=True, ids=["2d"])
def test_another_version_of_a_plug_in_is_one_warning(trained, tmp_path):
    changed = tmp_path / "changed.py"
    changed.write_text(MODEL.read_text() + "\n# another version\n")
    images = trained / "data" / "imagesTs"
    shown = command("predict", trained / "run", images, "--plugin", changed, "--out", tmp_path / "p").stderr
    assert shown.count("differs from") == 1


def test_a_metric_counts_by_hand():
    load_plugin(METRIC)
    near, far = [[0, 0], [10, 10]], [[50, 50], [60, 60]]
    config = boxel.EvaluateConfig(num_resamples=0)
    result = boxel.evaluate(
        {"a": {"boxes": [near, far], "scores": [0.9, 0.8], "labels": [0, 0]}},
        {"a": {"boxes": [near], "labels": [0]}, "b": {"boxes": [near], "labels": [0]}},
        config=config,
    )
    assert result.metrics["F2@0.50"] == pytest.approx(
        5 / (5 + 4 + 1)
    )  # one true positive, one false positive, one missed


def test_a_data_set_in_a_layout_of_your_own_is_checked_and_prepared(tmp_path, rng):
    data = tmp_path / "data"
    (data / "pictures").mkdir(parents=True)
    with (data / "my_layout.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "x", "y", "width", "height", "class"])
        for case in range(6):
            array = rng.normal(size=(1, 48, 64)).astype(np.float32)
            boxel.write_image(data / "pictures" / f"{case}.tif", boxel.Image(array, boxel.Geometry.plain((48, 64))))
            table.writerow([f"{case}.tif", 10, 4, 20, 30, "cell"])
    assert "0 errors" in command("check", data, "--plugin", READER).stdout
    command("prepare", data, "--plugin", READER, "--out", tmp_path / "work", "--recipe", "retina_unet_small", *SET)
    store = boxel.Store(tmp_path / "work")
    assert len(store.ids) == 6
    assert store.meta("0").original_instances.boxes.tolist() == [[[4, 10], [34, 30]]]
    (data / "my_layout.csv").write_text("image,x,y,width,height,class\n0.tif,10,4,wide,30,cell\n")
    assert "line 2 is not an object" in command("check", data, "--plugin", READER, check=False).stdout


def test_a_plug_in_that_fails_names_its_line_and_registers_nothing(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("import boxel\nboxel.register_export('half', lambda out, predictions: [])\n1 / 0\n")
    refused("models", "--plugin", file, says=f"plug-in {file}:3: ZeroDivisionError")
    with pytest.raises(ValueError, match=r"broken\.py:3"):
        load_plugin(file)
    file.write_text(file.read_text().replace("1 / 0", ""))
    assert load_plugin(file).registered == ("export format: half",)
    file.write_text("def broken(:\n")
    refused("models", "--plugin", file, says=f"plug-in {file}:1: SyntaxError")
    refused("models", "--plugin", tmp_path / "none.py", says="cannot be read")


def test_the_same_content_is_imported_once_and_another_under_its_names_is_refused(tmp_path):
    first = load_plugin(FORMAT)
    copy = tmp_path / "copy.py"
    copy.write_bytes(FORMAT.read_bytes())
    assert load_plugin(copy) is first
    copy.write_text(FORMAT.read_text() + "\n")
    with pytest.raises(
        ValueError, match=r"copy.py:\d+: ValueError: export format 'my_format' is registered already by"
    ):
        load_plugin(copy)


def test_a_file_that_registers_nothing_is_a_warning(tmp_path):
    (tmp_path / "empty.py").write_text("")
    with pytest.warns(UserWarning, match="registers nothing"):
        load_plugin(tmp_path / "empty.py")


def test_installed_packages_are_imported_when_a_name_is_unknown_and_a_broken_one_is_a_warning(tmp_path, monkeypatch):
    for name, code in {
        "sound": "import boxel; boxel.register_export('from_a_package', lambda out, predictions: [])",
        "broken": "raise RuntimeError('too old')",
    }.items():
        (tmp_path / f"boxel_{name}.py").write_text(code)
        info = tmp_path / f"boxel_{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: boxel-{name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[boxel.plugins]\n{name} = boxel_{name}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_packages", None)
    from boxel.export import get_format, list_formats

    get_format("boxel")
    assert "boxel_sound" not in sys.modules
    with pytest.warns(UserWarning, match=r"'broken' of boxel-broken 1.2 is left out: RuntimeError: too old"):
        assert "from_a_package" in list_formats()
    assert get_format("from_a_package")
    monkeypatch.delitem(sys.modules, "boxel_sound")


def test_only_plug_ins_that_a_configuration_names_belong_to_its_run():
    plugin = load_plugin(MODEL)
    assert used_plugins(boxel.get_recipe("retina_unet_small")) == []
    assert used_plugins(boxel.get_recipe("retina_unet_small", "my_model")) == [plugin]

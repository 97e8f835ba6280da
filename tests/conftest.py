"""What all tests share: both ranks, seeded randomness, real data where there is some, a small data set."""

import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from boxel import plugins
from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.plugins import Registry
from boxel.types import Geometry, Image

# `ndim` is the same for all examples of a test, so that sharing function-scoped fixtures is harmless.
SHARED = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
settings.register_profile("dev", max_examples=50, **SHARED)
settings.register_profile("ci", max_examples=200, derandomize=True, database=None, **SHARED)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what a fixture makes once for a module run in one worker, so that it is made once."""
    for item in items:
        fixtures = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
        shared = sorted(name for name, found in fixtures.items() if found[-1].scope == "module")
        if shared and not item.get_closest_marker("xdist_group"):
            chosen = item.callspec.params if hasattr(item, "callspec") else {}
            values = [str(chosen[name]) for name in shared if name in chosen]
            item.add_marker(pytest.mark.xdist_group("-".join([item.path.stem, *values])))


@pytest.fixture(params=[2, 3], ids=["2d", "3d"])
def ndim(request) -> int:
    """Everything works in both ranks; a test that takes this runs in both."""
    return request.param


@pytest.fixture(autouse=True)
def independent():
    """Every test starts from the same seed, and what it registers ends with it: the order of tests has no effect."""
    torch.manual_seed(0)
    with registries_restored():
        yield


@contextmanager
def registries_restored():
    """What is registered meanwhile is forgotten at the end. Fixtures of wider scope that register need it too."""
    entries = [(registry, dict(registry._entries)) for registry in Registry.known]
    imported = dict(plugins._plugins)
    try:
        yield
    finally:
        for registry, before in entries:
            registry._entries = before
        plugins._plugins = imported


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data sets: `BOXEL_DATA`, or `shared/data` beside the repository."""
    path = Path(os.environ.get("BOXEL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real data at {path}; set BOXEL_DATA")
    return path


@pytest.fixture
def native(ndim, rng, tmp_path) -> Path:
    """Cases a and b with two objects each, a negative case c, and a test case d with one object."""
    root, shape = tmp_path / "native", (12, 14, 16)[-ndim:]
    geometry = Geometry.plain(shape, (1.5, 1.0, 0.5)[-ndim:])
    label_map = np.zeros(shape, np.uint8)
    label_map[(slice(2, 6),) * ndim] = 1
    label_map[(slice(7, 11),) * ndim] = 2
    for case_id, labels in {"a": {1: 0, 2: 1}, "b": {1: 1, 2: 0}, "c": {}, "d": {1: 0}}.items():
        present = np.where(np.isin(label_map, list(labels)), label_map, 0)
        image = Image((100 * rng.normal(size=(1, *shape))).astype(np.float32), geometry)
        write_case(root, case_id, image, present, labels, split="test" if case_id == "d" else "train")
    write_dataset(root, "small", ndim, ["benign", "malignant"], ["CT"])
    return root


@pytest.fixture
def truth(native):
    """Every case with its image and objects."""
    data = open_dataset(native)
    return data, {case.id: read_case(case, data) for case in data.cases}

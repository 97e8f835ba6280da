"""Detectors learn eight real CT slices with lesions by heart: the whole way from pictures to boxes is consistent."""

import csv
import shutil

import pytest
import torch

import boxel
from boxel.loading.loader import collate
from boxel.loading.sampler import PatchSampler, SamplerConfig
from boxel.recipes import get_recipe
from boxel.testing.models import learn_by_heart


@pytest.fixture(scope="module")
def slices(data, tmp_path_factory):
    """DeepLesion with eight rows of its table, each a slice of its own."""
    source, root = data / "deeplesion", tmp_path_factory.mktemp("deeplesion")
    with (source / "DL_info_raghav_23rows_18col.csv").open() as file:
        rows = list(csv.DictReader(file))[:8]
    for row in rows:
        row["Train_Val_Test"] = "1"
        series, _, name = row["File_name"].rpartition("_")
        (root / "Images_png" / series).mkdir(parents=True, exist_ok=True)
        shutil.copy(source / "Images_png" / series / name, root / "Images_png" / series / name)
    with (root / "DL_info.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["yolov4_small", "faster_rcnn_small", "retina_net_small"])
def test_a_detector_learns_eight_slices_by_heart(recipe, slices, tmp_path):
    plan = ["plan.spacing_unit=voxel", "plan.spacing=[4,4]", "plan.patch_size=[128,128]"]
    experiment = get_recipe(recipe).override(plan)
    dataset = boxel.open_dataset(slices, format="deeplesion", options=["window=row"])
    store = boxel.prepare(dataset, tmp_path / "work", recipe=experiment, num_folds=3)
    sampler = PatchSampler(store, store.ids, store.task, SamplerConfig(order="epoch", foreground=0.0), seed=0)
    batch = collate([sampler[number] for number in range(8)])
    assert sorted(batch.cases) == sorted(store.ids)
    torch.manual_seed(0)
    model = experiment.model.build(store.task)
    assert learn_by_heart(model, batch, store.task.classes, 400, metric="AP@0.50", lr=2e-3) == 1.0

"""Threads change the time and nothing else, from wherever they are used."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from boxel import ops
from boxel.ops.threads import num_threads, share

COUNT = 20_000  # enough for several threads

OPERATORS = {
    "nms": lambda boxes, scores, labels: [ops.nms(boxes, scores, 0.3, labels=labels)],
    "nms, few": lambda boxes, scores, labels: [ops.nms(boxes, scores, 0.3, labels=labels, max_detections=9)],
    "soft_nms": lambda boxes, scores, labels: ops.soft_nms(boxes, scores, labels=labels),
    "weighted_nms": lambda boxes, scores, labels: ops.weighted_nms(boxes, scores, labels=labels, iou_threshold=0.3)[:3],
    "wbc": lambda boxes, scores, labels: ops.weighted_box_clustering(
        boxes, scores, labels=labels, iou_threshold=0.3, expected_views=4, view_ids=labels
    )[:3],
    "wbf": lambda boxes, scores, labels: ops.weighted_box_fusion(boxes, scores, labels=labels, expected_views=4)[:3],
    "merge_slices": lambda boxes, scores, labels: ops.merge_slices(
        boxes, scores, (scores * 97).long() % 11, labels=labels, iou_threshold=0.3
    )[:3],
}


@pytest.fixture
def crowd(ndim, rng):
    """Boxes of 5 labels, one of them half of all."""
    lower = torch.from_numpy(rng.uniform(0, 6 * COUNT ** (1 / ndim), (COUNT, ndim))).float()
    boxes = torch.stack([lower, lower + torch.from_numpy(rng.uniform(4, 12, (COUNT, ndim))).float()], 1)
    labels = rng.integers(0, 5, COUNT) * rng.integers(0, 2, COUNT)
    return boxes, torch.from_numpy(rng.integers(1, 5000, COUNT) / 5000).float(), torch.from_numpy(labels)


def with_threads(monkeypatch, count, work):
    with monkeypatch.context() as patch:
        patch.setattr("boxel.ops.threads.num_threads", lambda: count)
        return work()


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_boxes_are_grouped_alike_by_any_number_of_threads(monkeypatch, crowd, operator):
    alone = with_threads(monkeypatch, 1, lambda: operator(*crowd))
    for threads in (2, 3):
        for one, other in zip(alone, with_threads(monkeypatch, threads, lambda: operator(*crowd)), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("options", [{"rule": "iou", "positive": 0.4, "negative": 0.1}, {"rule": "atss"}])
def test_anchors_are_matched_alike_by_any_number_of_threads(monkeypatch, ndim, rng, options):
    cells = {2: 320, 3: 48}[ndim]
    anchors = ops.anchor_grid((cells,) * ndim, (4,) * ndim, [[8.0] * ndim, [6.0] * ndim])
    lower = torch.from_numpy(rng.uniform(0, 3.5 * cells, (12, ndim))).float()
    images = [torch.stack([lower, lower + size], 1) for size in (5, 9)]
    images[1][:6] = images[1][6:]  # of equal objects and anchors the first ones
    alone = with_threads(monkeypatch, 1, lambda: ops.match(anchors, images, anchors_per_cell=2, **options))
    assert (alone >= 0).any()
    for threads in (2, 3):
        assert torch.equal(
            alone, with_threads(monkeypatch, threads, lambda: ops.match(anchors, images, anchors_per_cell=2, **options))
        )


def test_parts_cover_the_work_once_and_in_order(monkeypatch):
    monkeypatch.setattr("boxel.ops.threads.num_threads", lambda: 4)
    assert share(lambda *part: part, 10, 2) == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]
    assert share(lambda *part: part, 10, 6) == [(0, 10)]
    parts = share(lambda *part: part, np.array([0, 1, 98, 99, 100]), 10)
    assert [row for part in parts for row in range(*part)] == [0, 1, 2, 3]


def test_a_failure_in_any_part_is_raised(monkeypatch):
    monkeypatch.setattr("boxel.ops.threads.num_threads", lambda: 2)

    def work(first, last):
        if first:
            raise ValueError("the second half")

    with pytest.raises(ValueError, match="the second half"):
        share(work, 10, 1)


def test_no_more_threads_than_the_user_allows(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    assert num_threads() == 3
    monkeypatch.delenv("NUMBA_NUM_THREADS")
    assert num_threads() == 8


def test_several_threads_may_call_at_once(monkeypatch, crowd):
    boxes, scores, labels = crowd
    expected = ops.nms(boxes, scores, 0.3, labels=labels)
    monkeypatch.setattr("boxel.ops.threads.num_threads", lambda: 3)
    with ThreadPoolExecutor(4) as callers:
        result = list(callers.map(lambda _: ops.nms(boxes, scores, 0.3, labels=labels), range(8)))
    assert all(torch.equal(expected, kept) for kept in result)


FORKED = """
import torch, boxel.ops.threads
from torch.utils.data import DataLoader
from boxel.ops import nms
boxel.ops.threads.num_threads = lambda: 2
torch.manual_seed(0)
lower = torch.rand(20_000, 2) * 900
boxes, scores, labels = torch.stack([lower, lower + 9], 1), torch.rand(20_000), torch.randint(0, 4, (20_000,))
class Cases(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, _): return nms(boxes, scores, 0.3, labels=labels)
here = Cases()[0]
for there in DataLoader(Cases(), batch_size=None, num_workers=2, multiprocessing_context="fork"):
    assert torch.equal(here, there)
print("alike")
"""


def test_the_forked_workers_of_a_data_loader_have_threads_of_their_own():
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", FORKED]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.strip() == "alike"

"""A program of its own, as Ray reads its environment once: work on two nodes of which one is killed in the middle.

python -m tests.end_to_end.lost_node predict RUN IMAGES OUT DAMAGED: the folder DAMAGED holds an image that cannot be
read beside one that can. python -m tests.end_to_end.lost_node cells OUT: the cells of `tiny_grid`. The same with
`jobs`: two of them as jobs, with nothing killed in here.
"""

import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boxel
from boxel.api.ray_cluster import connect
from boxel.experiments.executors import RayTasks, Slurm
from boxel.experiments.run import run as run_experiment
from boxel.plugins import load_plugin

NODE = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80_000_000}


@contextmanager
def cluster_of(number: int) -> Iterator[tuple[Any, list[Any]]]:
    """A cluster with so many nodes that work, besides its head."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(**NODE) for _ in range(number)]
    with connect(cluster.address):
        yield cluster, nodes
    cluster.shutdown()


def kill_where_it_stalls(cluster: Any, node: Any, mark: Path) -> None:
    """Work on the node stalls at a point, see `tiny_grid.LOST`; it is killed when it has got there."""
    (mark / "id").write_text(node.node_id)

    def kill_when_reached() -> None:
        while not (mark / "reached").exists():
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)

    threading.Thread(target=kill_when_reached, daemon=True).start()


def mark_beside(out: str) -> Path:
    mark = Path(f"{out}_lost")
    mark.mkdir()
    os.environ["BOXEL_TEST_LOST_NODE"] = str(mark)  # the nodes inherit it
    return mark


def predict(run: str, images: str, out: str, damaged: str) -> None:
    load_plugin(Path(__file__).with_name("stalling_predictions.py"))
    mark = mark_beside(out)
    with cluster_of(1) as (cluster, (first,)):

        def progress(what: str, done: int, total: int) -> None:
            print(what, done, total, flush=True)
            if (what, done) == ("predict", 2):
                cluster.add_node(**NODE)

        kill_where_it_stalls(cluster, first, mark)
        boxel.predict(run, images, out, ray=cluster.address, progress=progress)
        try:
            boxel.predict(run, damaged, f"{out}_damaged", ray=cluster.address)
        except ValueError as error:
            print("refused:", error)


def cells(out: str) -> None:
    load_plugin(Path(__file__).with_name("tiny_grid.py"))
    mark = mark_beside(out)
    with cluster_of(2) as (cluster, (first, _)):
        kill_where_it_stalls(cluster, first, mark)
        for cell in run_experiment("tiny", out, executor=RayTasks(cluster.address)):
            print(cell.path, cell.state, cell.note)


def jobs(out: str) -> None:
    load_plugin(Path(__file__).with_name("tiny_grid.py"))
    run_experiment("tiny", out, only=["seed=0", "seed=1"], executor=Slurm(["cluster=local"]))


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
    {"predict": predict, "cells": cells, "jobs": jobs}[sys.argv[1]](*sys.argv[2:])

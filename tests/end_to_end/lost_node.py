"""A program of its own, as Ray reads its environment once: predict on two nodes of which one is killed in the middle.

python -m tests.end_to_end.lost_node RUN IMAGES OUT DAMAGED: the folder DAMAGED holds an image that cannot be read.
"""

import logging
import os
import secrets
import sys

import boxel
from boxel.api.ray_cluster import connect


def main(run: str, images: str, out: str, damaged: str) -> None:
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "num_cpus": 0, "include_dashboard": False})
    first = cluster.add_node(**node)

    def progress(what: str, done: int, total: int) -> None:
        print(what, done, total, flush=True)
        if (what, done) == ("predict", 2):
            cluster.add_node(**node)
            cluster.remove_node(first, allow_graceful=False)  # with the worker that predicted so far

    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
    with connect(cluster.address):
        boxel.predict(run, images, out, ray=cluster.address, progress=progress)
        try:
            boxel.predict(run, damaged, f"{out}_damaged", ray=cluster.address)
        except ValueError as error:
            print("refused:", error)
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])

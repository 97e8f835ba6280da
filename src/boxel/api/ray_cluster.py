"""Ray clusters: connecting to one, and work on actors that survives the loss of a machine. Needs `boxel[ray]`."""

import logging
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["connect", "divide", "first_line", "run_on_actors"]

OLDEST = (2, 52)  # older ones cannot demand a token (CVE-2025-62593)
STORE_BYTES = 100_000_000  # paths and names travel, images do not
TRIES = 3
PATIENCE = 60  # seconds


@contextmanager
def connect(address: str) -> Iterator[Any]:
    """Connect to a Ray cluster, and leave it in the end; gives the module `ray`.

    Ray's token authentication is on, unless `RAY_AUTH_MODE` says otherwise: clusters of several machines need the
    same token on all of them (docs/how_to/cohorts.md).

    Args:
        address: `"local"` starts a cluster in this machine that listens on the loopback interface only; else
            `"HOST:PORT"`, or `"auto"` for the one that runs on this machine.

    Raises:
        ValueError: Ray is not installed or too old, or there is no cluster at the address.
    """
    # Read when Ray is imported.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address == "local":
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # on Linux too, this makes Ray listen on loopback only
        if "RAY_AUTH_TOKEN_PATH" not in os.environ:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray = _import_ray()
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        options |= {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ValueError(
            f"--ray {address}: no cluster that accepts this process ({str(error).strip().splitlines()[0]}); check the "
            "address and the token, or use --ray local"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def divide(resources: Mapping[str, float], workers: int | None) -> tuple[int, int, dict[str, Any]]:
    """The number of workers on a cluster, the cores of each, and what Ray reserves for each."""
    import torch

    gpus, cpus = int(resources.get("GPU", 0)), max(1, int(resources.get("CPU", 1)))
    number = workers or gpus or max(1, cpus // torch.get_num_threads())
    cores = max(1, cpus // number) if workers or gpus else min(cpus, torch.get_num_threads())
    share = 1.0 if number <= gpus else int(1e4 * gpus / number) / 1e4
    return number, cores, {"num_cpus": cores, "num_gpus": share if gpus else 0}


def run_on_actors(ray: Any, start: Callable[[], Any], calls: Sequence[Any], number: int) -> Iterator[Any]:
    """Call `actor.run(call)` for every call on up to `number` actors; gives the results as they arrive.

    An actor has one call at a time. If it is lost, with its process or its machine, another one gets its call.

    Args:
        ray: the module, connected.
        start: makes an actor with the methods `load()`, which is called first, and `run(call)`.
        calls: anything that can be pickled, small.
        number: of actors.

    Raises:
        ValueError: the actors of a call were lost three times, or cannot start.
        Exception: that a method raised.
    """
    waiting = deque((call, 1) for call in calls)
    loading: dict[Any, Any] = {}
    running: dict[Any, tuple[Any, Any, int]] = {}
    idle: list[Any] = []
    failures, warned = 0, False

    def launch() -> None:
        actor = start()
        loading[actor.load.remote()] = actor

    for _ in range(min(number, len(waiting))):
        launch()
    try:
        while waiting or running:
            while waiting and idle:
                actor = idle.pop()
                call, tries = waiting.popleft()
                running[actor.run.remote(call)] = actor, call, tries
            ready, _ = ray.wait([*loading, *running], num_returns=1, timeout=PATIENCE)
            if not ready and not running and not warned:
                warned = True
                logging.getLogger("boxel").warning(
                    f"no worker has started for {PATIENCE} s: the cluster has no free GPU or cores; waiting"
                )
            for reference in ready:
                actor, *task = (loading.pop(reference),) if reference in loading else running.pop(reference)
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                except ray.exceptions.RayError as error:  # the process or its machine was lost
                    call, tries = task or (None, 0)
                    failures += not task
                    logging.getLogger("boxel").warning(f"a worker was lost{f' with {call}' if task else ''}")
                    if tries >= TRIES or failures >= TRIES * number:
                        what = f"{call}: its worker was lost {tries} times" if task else "the workers cannot start"
                        raise ValueError(f"{what} ({first_line(error)}); is its memory large enough?") from error
                    if task:
                        waiting.appendleft((call, tries + 1))
                    launch()
                else:
                    idle.append(actor)
                    if task:
                        yield result
    finally:
        for actor in [*idle, *loading.values(), *(actor for actor, *_ in running.values())]:
            ray.kill(actor)


def first_line(error: Exception) -> str:
    """The first line of a message of Ray, which often has many."""
    return str(error).strip().splitlines()[0]


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise ValueError("--ray needs Ray, which is not installed; install it with pip install 'boxel[ray]'") from None
    if tuple(map(int, ray.__version__.split(".")[:2])) < OLDEST:
        raise ValueError(f"Ray {ray.__version__} is too old, 2.52 is the first with authentication; update it")
    return ray

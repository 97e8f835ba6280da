"""Work on actors that come and go, with a stand-in for Ray whose actors are lost on demand."""

import sys
from types import SimpleNamespace

import pytest

from boxel.api.ray_cluster import connect, divide, run_on_actors


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


class FakeRay:
    """Calls are done in the order in which they were made; `outcomes` says how those of a call end, one by one."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, **outcomes):
        self.outcomes, self.most, self.started, self.killed = outcomes, 0, 0, 0

    def start(self):
        self.started += 1
        actor = SimpleNamespace()
        actor.load = SimpleNamespace(remote=lambda: (self.started, "load"))
        actor.run = SimpleNamespace(remote=lambda call: (id(actor), call))
        return actor

    def wait(self, references, num_returns, timeout):
        self.most = max(self.most, len(references))
        return references[:1], references[1:]

    def get(self, reference):
        outcomes = self.outcomes.get(reference[1], [])
        if outcomes:
            raise outcomes.pop(0)
        return reference[1].upper()

    def kill(self, actor):
        self.killed += 1


def test_every_call_is_made_once_and_no_more_are_under_way_than_there_are_actors():
    ray = FakeRay()
    assert sorted(run_on_actors(ray, ray.start, "abcdefg", 3)) == list("ABCDEFG")
    assert (ray.most, ray.started, ray.killed) == (3, 3, 3)
    assert not list(run_on_actors(ray, ray.start, "", 3))
    assert ray.started == 3


def test_the_call_of_a_lost_actor_is_made_again_on_a_new_one(caplog):
    ray = FakeRay(b=[RayError("node died"), RayError("node died")], load=[RayError("no memory")])
    assert sorted(run_on_actors(ray, ray.start, "abc", 2)) == list("ABC")
    assert ray.started == 2 + 3
    assert caplog.text.count("a worker was lost with b") == 2


def test_a_call_that_loses_every_actor_is_named():
    ray = FakeRay(b=[RayError("out of memory\nmore")] * 3)
    with pytest.raises(
        ValueError, match=r"b: its worker was lost 3 times \(out of memory\); is its memory large enough"
    ):
        list(run_on_actors(ray, ray.start, "abc", 2))
    ray = FakeRay(load=[RayError("boom")] * 6)
    with pytest.raises(ValueError, match=r"the workers cannot start \(boom\)"):
        list(run_on_actors(ray, ray.start, "abc", 2))
    assert ray.killed == 1


def test_the_error_of_a_call_is_raised_itself():
    ray = FakeRay(b=[RayTaskError(ValueError("a.png: damaged"))])
    with pytest.raises(ValueError, match=r"^a\.png: damaged$"):
        list(run_on_actors(ray, ray.start, "abc", 2))


@pytest.mark.parametrize(
    ("resources", "workers", "number", "cores", "gpus"),
    [
        ({"CPU": 8.0}, None, 8, 1, 0),
        ({"CPU": 8.0}, 2, 2, 4, 0),
        ({"CPU": 2.0}, 3, 3, 1, 0),
        ({"CPU": 16.0, "GPU": 4.0}, None, 4, 4, 1.0),
        ({"CPU": 16.0, "GPU": 2.0}, 6, 6, 2, 0.3333),
    ],
)
def test_a_cluster_is_divided_by_gpus_or_else_by_the_cores_that_one_process_uses(
    resources, workers, number, cores, gpus, monkeypatch
):
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    divided = divide(resources, workers)
    assert divided[:2] == (number, cores)
    assert (divided[2]["num_cpus"], divided[2]["num_gpus"]) == (cores, gpus)


def test_a_missing_or_old_ray_is_one_message(monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
        monkeypatch.setenv(name, "")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'boxel\[ray\]'"), connect("10.0.0.1:6379"):
        pass
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(__version__="2.51.1"))
    with pytest.raises(ValueError, match=r"Ray 2\.51\.1 is too old, 2\.52"), connect("10.0.0.1:6379"):
        pass

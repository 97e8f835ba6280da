"""Cells on Ray and SLURM without either: what is shared out, what is retried, and which choices are refused."""

import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from boxel.cli import main
from boxel.experiments.executors import RayTasks, Slurm
from boxel.experiments.executors import ray as ray_executor
from boxel.experiments.executors.elsewhere import carry_out
from tests.unit.api.test_ray_cluster import RayError, RayTaskError


class FakeRay:
    """Ends tasks in the order in which they were made; `ends` says how that of a folder's name does."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, **ends):
        self.ends, self.most, self.options = ends, 0, {}

    def cluster_resources(self):
        return {"CPU": 4.0, "GPU": 2.0}

    def remote(self, **options):
        self.options = options
        return lambda function: SimpleNamespace(remote=lambda folder, plugins, threads: (folder, threads))

    def wait(self, references, num_returns, timeout):
        self.most = max(self.most, len(references))
        return references[:1], references[1:]

    def get(self, reference):
        folder, threads = reference
        assert threads == 2
        end = self.ends.get(folder.name)
        if isinstance(end, Exception):
            raise end
        if end is None:
            (folder / "done.json").touch()
        return end or None


@pytest.fixture
def folders(tmp_path):
    places = [tmp_path / name for name in "abcde"]
    for place in places:
        place.mkdir()
    return places


def run_on(ray, folders, monkeypatch) -> dict:
    @contextmanager
    def connect(address):
        yield ray

    monkeypatch.setattr(ray_executor, "connect", connect)
    ended = {}
    RayTasks("auto").run(folders, lambda folder, reason: ended.update({folder.name: reason}), lambda *_: None)
    return ended


def test_ray_has_a_task_per_gpu_and_a_failed_or_lost_cell_does_not_stop_the_others(folders, monkeypatch):
    """Cell d is taken by another process meanwhile; e is done already."""
    (folders[4] / "done.json").touch()
    lost = RayError("node died\nand more")
    ray = FakeRay(a="b.png: damaged", b=lost, d="")
    ended = run_on(ray, folders, monkeypatch)
    assert ended.keys() == {"a", "b", "c"}
    assert ended["a"] == "b.png: damaged"
    assert "lost 3 times (node died)" in ended["b"]
    assert ended["c"] is None
    assert (folders[1] / "error.txt").read_text().strip() == ended["b"]
    assert ray.most == 2
    assert ray.options == {"num_cpus": 2, "num_gpus": 1.0, "max_retries": 2, "max_calls": 1}


def test_a_worker_without_this_version_of_boxel_says_so(folders, monkeypatch):
    ray = FakeRay(a=RayTaskError(ImportError("no module boxel")))
    assert "no module boxel" in run_on(ray, folders[:1], monkeypatch)["a"]


def test_ray_is_not_connected_to_when_all_cells_are_taken(monkeypatch):
    monkeypatch.setattr(ray_executor, "connect", None)
    RayTasks("auto").run([], None, None)


def test_a_machine_without_the_shared_storage_says_so(tmp_path):
    assert "not on the machine" in carry_out(tmp_path / "cell", (), 1)


def test_what_slurm_is_asked_for_has_the_names_of_submitit():
    slurm = Slurm(["partition=gpu", "timeout_min=30", "mem_gb=7.5", "gpus=1", "cpus=4"], workers=3)
    assert slurm.parameters == {
        "name": "boxel", "slurm_partition": "gpu", "timeout_min": 30, "mem_gb": 7.5, "gpus_per_node": 1,
        "cpus_per_task": 4, "slurm_array_parallelism": 3,
    }  # fmt: skip
    assert (slurm.cluster, Slurm(["cluster=local"]).cluster) == ("slurm", "local")


@pytest.mark.parametrize(
    ("option", "says"),
    [("partion=gpu", "did you mean 'partition'"), ("gpus=two", "'two' is no number"), ("gpus", "is no number")],
)
def test_a_wrong_choice_for_slurm_is_one_message(option, says):
    with pytest.raises(ValueError, match=says):
        Slurm([option])


def test_slurm_without_submitit_or_without_sbatch_is_one_message(folders, monkeypatch):
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "submitit", None)
        with pytest.raises(ValueError, match=r"pip install 'boxel\[slurm\]'"):
            Slurm().run(folders, None, None)
    pytest.importorskip("submitit", reason="the extra boxel[slurm] is not installed")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="cluster=slurm: cannot be used here"):
        Slurm().run(folders, None, None)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--ray", "local", "--slurm", "gpus=1"], "--ray and --slurm"),
        (["--ray", "local", "--memory", "4"], "--memory are for this machine"),
        (["--slurm", "gpus=1", "--jobs", "0"], "--jobs 0 and --memory"),
    ],
)
def test_executors_that_exclude_each_other_are_refused(tmp_path, capsys, monkeypatch, words, says):
    monkeypatch.setattr(sys, "argv", ["boxel", "experiment", "run", "toy", "--out", str(tmp_path / "out"), *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()

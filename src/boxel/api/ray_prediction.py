"""Predicting on the workers of a Ray cluster: models are loaded once per worker, only names and paths travel."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from boxel.api.case_prediction import CaseResult, predict_case
from boxel.api.detector import Detector
from boxel.api.prediction_inputs import Images
from boxel.api.ray_cluster import connect, divide, run_on_actors
from boxel.operating_points import Shown
from boxel.plugins import load_plugin, loaded_plugins

__all__ = ["RayWork"]


@dataclass(frozen=True)
class _Call:
    """A case to predict; `images` holds only this one."""

    case: str
    images: Images

    def __str__(self) -> str:
        return f"case {self.case!r}"


@dataclass(frozen=True)
class RayWork:
    """A prediction on a Ray cluster; the attributes are arguments of `boxel.predict`."""

    address: str
    runs: Sequence[Path]
    overrides: Sequence[str]
    trust: bool
    workers: int | None = None
    shown: Shown = field(default_factory=Shown)

    def predict(
        self, fingerprint: str, images: Images, cases: Sequence[str], out: Path, num_cases: int
    ) -> Iterator[CaseResult]:
        """Predict the cases in any order; see `predict_case`.

        Raises:
            ValueError: the detector on a worker has another fingerprint; the workers of a case were lost.
        """
        if not cases:
            return
        with connect(self.address) as ray:
            number, cores, options = divide(ray.cluster_resources(), self.workers)
            make = ray.remote(_Worker).options(**options)
            plugins = [plugin.path.resolve() for plugin in loaded_plugins()]
            setup = (self, fingerprint, plugins, Path.cwd(), cores, out, num_cases)
            calls = [_Call(case, images.only(case)) for case in cases]
            yield from run_on_actors(ray, lambda: make.remote(*setup), calls, number)


class _Worker:
    """A process with a detector; a Ray actor."""

    def __init__(
        self, work: RayWork, fingerprint: str, plugins: Sequence[Path], folder: Path, cores: int, out: Path, total: int
    ) -> None:
        self.work, self.fingerprint, self.plugins, self.folder = work, fingerprint, plugins, folder
        self.cores, self.out, self.total = cores, out, total

    def load(self) -> None:
        import torch

        torch.set_num_threads(self.cores)
        where = os.uname().nodename
        if not self.folder.is_dir():
            raise ValueError(f"{self.folder}: not on the machine {where}; all machines need the same shared storage")
        os.chdir(self.folder)  # paths are relative to it, also in the results
        for plugin in self.plugins:
            load_plugin(plugin)
        run, *ensemble = self.work.runs
        self.detector = Detector.load(
            run, ensemble=ensemble, overrides=self.work.overrides, trust=self.work.trust, shown=self.work.shown
        )
        if self.detector.fingerprint != self.fingerprint:
            raise ValueError(f"{run}: other weights or settings on the machine {where}; all machines need the same run")

    def run(self, call: _Call) -> CaseResult:
        return predict_case(self.detector, call.images, call.case, self.out, self.total)

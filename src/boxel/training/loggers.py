"""Loggers: the metrics of a training for other programs. Each is an optional library, imported when it is named.

RUN/tensorboard/    events of TensorBoard
RUN/loggers.json    under which id MLflow and Weights & Biases know the run, so that a resumed training goes on there
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from boxel.config import did_you_mean, leaves
from boxel.files import write_text
from boxel.inputs.texts import read_json
from boxel.training.observers import Begun, Metrics, Observer

IDS = "loggers.json"


class Logger(Observer, ABC):
    """A logger that needs a library of the same name."""

    name = ""

    @abstractmethod
    def begin(self, begun: Begun) -> None:
        """Open the record of a run, or the one that an interrupted training wrote to."""

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write the values of a step."""

    def on_start(self, begun: Begun) -> None:
        try:
            self.begin(begun)
        except Exception as error:  # of another library: a server that does not answer, a broken installation
            raise ValueError(f"--logger {self.name}: {error}; correct this, or train with --logger none") from error

    def on_step(self, step: int, metrics: Metrics) -> None:
        self.log(metrics, step)

    def on_validation(self, step: int, metrics: Metrics) -> None:
        self.log({f"val/{name}": value for name, value in metrics.items()}, step)


class TensorBoard(Logger):
    """Events in `RUN/tensorboard`, which `tensorboard --logdir` shows."""

    name = "tensorboard"

    def begin(self, begun: Begun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(begun.run / self.name), purge_step=begun.step + 1)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def on_end(self) -> None:
        self.writer.close()


class MLflow(Logger):
    """A run of MLflow, in the experiment and on the server that its environment variables name."""

    name = "mlflow"

    def begin(self, begun: Begun) -> None:
        import mlflow

        known = _ids(begun.run).get(self.name)
        run = mlflow.start_run(run_id=known, run_name=None if known else begun.run.name)
        _remember(begun.run, self.name, run.info.run_id)
        if not known:
            mlflow.log_params({key: str(value)[:500] for key, value in leaves(begun.settings)})

    def log(self, values: Mapping[str, float], step: int) -> None:
        import mlflow

        mlflow.log_metrics({re.sub(r"[^\w\-./ ]", "_", name): value for name, value in values.items()}, step=step)

    def on_end(self) -> None:
        import mlflow

        mlflow.end_run()


class WandB(Logger):
    """A run of Weights & Biases, in the project that its environment variables name."""

    name = "wandb"

    def begin(self, begun: Begun) -> None:
        import wandb

        known = _ids(begun.run).get(self.name)
        self.run = wandb.init(
            id=known, resume="allow", name=begun.run.name, dir=str(begun.run), config=dict(begun.settings)
        )
        _remember(begun.run, self.name, self.run.id)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log({**values, "step": step}, step=step)

    def on_end(self) -> None:
        self.run.finish()


LOGGERS: dict[str, type[Logger]] = {kind.name: kind for kind in (TensorBoard, MLflow, WandB)}


Loggers = str | Observer | Sequence[str | Observer]


def observers_of(given: Loggers) -> list[Observer]:
    """The loggers of these names, with the observers among them; `auto` is TensorBoard, if it is installed.

    Raises:
        ValueError: an unknown name, or a library that is not installed.
    """
    found: list[Observer] = []
    for one in [given] if isinstance(given, str | Observer) else given:
        if isinstance(one, Observer):
            found.append(one)
        elif one != "none" and (one != "auto" or find_spec("tensorboard")):
            found.append(_logger("tensorboard" if one == "auto" else one))
    return found


def _logger(name: str) -> Logger:
    if name not in LOGGERS:
        raise ValueError(f"--logger {name}: unknown{did_you_mean(name, [*LOGGERS, 'auto', 'none'])}")
    if not find_spec(name):
        raise ValueError(f"--logger {name}: {name} is not installed; install it with pip install 'boxel[{name}]'")
    return LOGGERS[name]()


def _ids(run: Path) -> dict[str, str]:
    path = run / IDS
    fix = "delete it, and the loggers begin a new record"
    return read_json(path, dict[str, str], fix) if path.exists() else {}


def _remember(run: Path, name: str, known: str) -> None:
    write_text(run / IDS, json.dumps(_ids(run) | {name: known}, indent=2) + "\n")

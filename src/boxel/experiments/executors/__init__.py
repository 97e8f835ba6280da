"""Who carries out the cells of an experiment: this process, processes of this machine, Ray, or SLURM."""

from boxel.experiments.executors.base import Executor, Here
from boxel.experiments.executors.processes import Processes
from boxel.experiments.executors.ray import RayTasks
from boxel.experiments.executors.slurm import Slurm

__all__ = ["Executor", "Here", "Processes", "RayTasks", "Slurm"]

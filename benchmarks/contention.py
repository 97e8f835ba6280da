"""What threads cost beside busy processes: `python benchmarks/contention.py`.

    python benchmarks/contention.py --work train --busy 1 --ndim 3 --size 32

`retina_unet_small` on toy images: a training step, and the prediction of one image, fp32. Each row is a process of its
own that waits for its turn, so that what disturbs the machine disturbs all rows. "spinning" is GNU OpenMP's own way to
wait, "sleeping" Boxel's. Ratios are medians over the rounds, each to the row that was the best beside the same busy
processes. "to its share" is the wall time divided by that of one thread which has as much of a
core as a busy process has meanwhile, whatever else runs on the machine.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import boxel
from boxel.cores import COUNTS, WAITING, num_cores

SPINNING = {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}  # the defaults of GNU's and LLVM's OpenMP
Row = tuple[int, str]  # threads, way to wait
Took = tuple[float, float, float]  # wall and CPU seconds; wall seconds that a busy process had a core


def serve(store: Path, batch_size: int | None, threads: int) -> None:
    """Measure what standard input asks for, line by line."""
    import torch
    from training import Training

    from boxel.inference.raw import predict_raw
    from boxel.preparation.store import Store
    from boxel.training.memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(threads)
    prepared = Store(store)
    training = Training(prepared, "retina_unet_small", None, batch_size or prepared.task.batch_size, "fp32", "cpu")
    config = training.experiment.predict.model_copy(update={"views": "identity"})
    image = prepared.read(prepared.ids[0])[0]

    def predict() -> None:
        training.model.eval()
        with torch.inference_mode():
            predict_raw([training.model], image, 0.0, training.task, config, torch.device("cpu"))
        training.model.train()

    works: dict[str, Callable[[], object]] = {"train": training.step, "predict": predict}
    for function in works.values():
        function()
    patch = " x ".join(map(str, (batch_size or prepared.task.batch_size, *prepared.task.patch_size)))
    print(f"training step, {patch}; prediction, {' x '.join(map(str, image.shape[1:]))}", flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        works[line.strip()]()
        print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)


def start(row: Row, store: Path, batch_size: int) -> subprocess.Popen[str]:
    threads, waiting = row
    environment = {name: value for name, value in os.environ.items() if name not in (*WAITING, *COUNTS)}
    if waiting == "spinning":
        environment |= SPINNING
    elif waiting.endswith("spins"):
        environment["GOMP_SPINCOUNT"] = waiting.split()[0]
    command = [sys.executable, __file__, "--serve", str(store), str(batch_size), str(threads)]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(process: subprocess.Popen[str], name: str, busy: list[subprocess.Popen[bytes]]) -> Took:
    before = sum(map(cpu_seconds, busy))
    process.stdin.write(f"{name}\n")
    process.stdin.flush()
    wall, cpu = map(float, process.stdout.readline().split())
    return wall, cpu, (sum(map(cpu_seconds, busy)) - before) / (len(busy) or 1)


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """On Linux only."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(processes: dict[Row, subprocess.Popen[str]], name: str, others: int, rounds: int) -> dict[Row, list[Took]]:
    took: dict[Row, list[Took]] = {row: [] for row in processes}
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
    try:
        for _ in range(rounds):
            for row, process in processes.items():
                took[row].append(ask(process, name, busy))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    return took


def print_rows(took: dict[Row, list[Took]], begin: str) -> None:
    medians = {row: [statistics.median(column) for column in zip(*turns, strict=True)] for row, turns in took.items()}
    best = [took[min(took, key=lambda row: medians[row][i])] for i in (0, 1)]
    alone = next(iter(medians.values()))[1]
    for row, turns in took.items():
        ratios = (statistics.median(a[i] / b[i] for a, b in zip(turns, best[i], strict=True)) for i in (0, 1))
        wall, cpu, had = medians[row]
        cells = [f"{row[0]}, {row[1]}", f"{wall:.3f}", f"{cpu:.3f}", *(f"{ratio:.2f}" for ratio in ratios)]
        print(f"| {begin} | {' | '.join(cells)} | {f'{had / alone:.2f}' if had else '-'} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", nargs="+", choices=["train", "predict"], default=["train", "predict"])
    parser.add_argument("--ndim", nargs="+", type=int, choices=[2, 3], default=[2, 3])
    parser.add_argument("--size", type=int, help="voxels per axis [320 in 2D, 64 in 3D]")
    parser.add_argument("--busy", nargs="+", type=int, default=[0, 1, 2], help="busy processes beside")
    parser.add_argument("--batch-size", type=int, default=0, help="of a training step [as planned]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--spins", nargs="+", default=[], help="values of GOMP_SPINCOUNT to compare with Boxel's")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        store, batch_size, threads = given.serve
        serve(Path(store), int(batch_size) or None, int(threads))
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    print(f"{date.today()}, commit {commit.stdout.strip() or 'none'}, {platform.machine()}, {num_cores()} cores")
    print(f"load before {os.getloadavg()[0]:.1f}\n")
    print("| work | busy | threads | wall s | CPU s | wall | CPU | to its share |")
    print("|---" * 8 + "|")
    ways = ("spinning", "sleeping", *(f"{count} spins" for count in given.spins))
    rows = [(1, "no waiting"), *((n, way) for n in sorted({2, max(2, num_cores())}) for way in ways)]
    for ndim in given.ndim:
        size = given.size or {2: 320, 3: 64}[ndim]
        with tempfile.TemporaryDirectory() as folder:
            boxel.make_toy(Path(folder) / "toy", num_train=6, num_val=1, num_test=1, ndim=ndim, size=size)
            boxel.prepare(Path(folder) / "toy", Path(folder) / "work", recipe="retina_unet_small", workers=0)
            processes = {row: start(row, Path(folder) / "work", given.batch_size) for row in rows}
            sizes = {process.stdout.readline() for process in processes.values()}
            if "" in sizes:
                sys.exit("a process did not start")
            names = dict(zip(("train", "predict"), sizes.pop().strip().split("; "), strict=True))
            for name in given.work:
                for others in given.busy:
                    took = measure(processes, name, others, given.rounds)
                    print_rows(took, f"{names[name]} | {others}")
            for process in processes.values():
                process.communicate()


if __name__ == "__main__":
    main()

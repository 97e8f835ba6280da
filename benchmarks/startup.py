"""How long a user waits before anything happens: seconds of a whole process, least and median of ten.

python benchmarks/startup.py
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

BOXEL = Path(sys.executable).with_name("boxel")
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import boxel": [sys.executable, "-c", "import boxel"],
    "boxel --help": [BOXEL, "--help"],
    "boxel train --help": [BOXEL, "train", "--help"],
    "import torch": [sys.executable, "-c", "import torch"],
}


def seconds(command: list) -> list[float]:
    times = []
    for _ in range(10):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    print(f"{'':20}{'least':>8}{'median':>8}")
    for name, command in COMMANDS.items():
        times = seconds(command)
        print(f"{name:20}{min(times):8.3f}{statistics.median(times):8.3f}")

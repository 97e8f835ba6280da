"""Random patches from a store, memory-mapped npy, npz and zarr: `python benchmarks/store.py`.

    python benchmarks/store.py --volumes 50 --folder /data/scratch    # about 50 GB of disk for a short while

Volumes of 300 x 512 x 512 like CT (air, lung, tissue and bone, noise of 20 HU, whole numbers) are prepared; every
format then holds the same float32 images and label maps. A patch is 64 x 128 x 128 of both, somewhere. The formats take
turns; each opens its files for every patch, as the workers of a loader do, unless said otherwise. Cold: the system
is asked to forget the files before each patch. One thread, which keeps the memory it frees as a training does. The
zarr row needs `pip install zarr`.
"""

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.preparation.prepare import prepare
from boxel.preparation.store import Store
from boxel.training.memory import keep_freed_memory
from boxel.types import Geometry, Image

SHAPE, PATCH = (300, 512, 512), (64, 128, 128)
Region = tuple[slice, ...]
Reader = Callable[[str, Region], tuple[np.ndarray, np.ndarray]]


def volume(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """HU `(*s)` int16 and a label map of 20 nodules `(*s)` uint8."""
    rng = np.random.default_rng(seed)
    tissue = rng.choice(np.array([-850, -820, 30, 60, 300], np.int16), [-(-size // 16) for size in shape])
    for axis in range(len(shape)):
        tissue = tissue.repeat(16, axis)
    tissue = tissue[tuple(map(slice, shape))]
    label_map = np.zeros(shape, np.uint8)
    for number in range(1, 21):
        edge = int(rng.integers(4, 24))
        corner = [int(rng.integers(0, size - edge)) for size in shape]
        label_map[tuple(slice(c, c + edge) for c in corner)] = number
    tissue[label_map > 0] = 40
    hu = tissue + np.round(20 * rng.standard_normal(shape, np.float32)).astype(np.int16)
    across = [np.linspace(-1, 1, size, dtype=np.float32) for size in shape[-2:]]
    outside = (across[0] ** 2)[:, None] + across[1] ** 2 > 0.8  # the table and the air around the body
    hu[:, outside] = -1000 + rng.integers(-8, 9, (shape[0], int(outside.sum())), np.int16)
    return hu, label_map


def make_store(folder: Path, count: int) -> Store:
    for case in range(count):
        hu, label_map = volume(case, SHAPE)
        labels = {int(number): 0 for number in np.unique(label_map)[1:]}
        image = Image(hu[None], Geometry.plain(SHAPE))
        write_case(folder / "data", f"v{case:02d}", image, label_map, labels, suffix=".mha", compress=False)
    write_dataset(folder / "data", "volumes", len(SHAPE), ("nodule",), ("CT",))
    return prepare(open_dataset(folder / "data"), folder / "store", num_folds=3)


def formats(store: Store, folder: Path) -> tuple[dict[str, Reader], dict[str, list[Path]]]:
    """How each format reads a region of a case, and its files."""
    (folder / "npy").mkdir(), (folder / "npz").mkdir()
    zarr_at = folder / "zarr"
    for case in store.ids:
        image, label_map = store.read(case)
        label_map = label_map.astype(np.uint8)
        np.save(folder / "npy" / f"{case}.npy", image)
        np.save(folder / "npy" / f"{case}.labels.npy", label_map)
        np.savez_compressed(folder / "npz" / f"{case}.npz", image=image, label_map=label_map)
        if find_spec("zarr"):
            import zarr

            for name, array in {"image": image[0], "labels": label_map}.items():
                zarr.create_array(zarr_at / f"{case}.{name}", data=array, chunks=tuple(size // 2 for size in PATCH))
    opened = {}

    def own(case: str, region: Region) -> tuple[np.ndarray, np.ndarray]:
        return store.read(case, [part.start for part in region], [part.stop for part in region])

    def npy(case: str, region: Region) -> tuple[np.ndarray, np.ndarray]:
        image = np.load(folder / "npy" / f"{case}.npy", mmap_mode="r")
        label_map = np.load(folder / "npy" / f"{case}.labels.npy", mmap_mode="r")
        return np.array(image[(slice(None), *region)]), label_map[region].astype(np.int32)

    def kept_npy(case: str, region: Region) -> tuple[np.ndarray, np.ndarray]:
        if case not in opened:
            names = (f"{case}.npy", f"{case}.labels.npy")
            opened[case] = [np.load(folder / "npy" / name, mmap_mode="r") for name in names]
        image, label_map = opened[case]
        return np.array(image[(slice(None), *region)]), label_map[region].astype(np.int32)

    def npz(case: str, region: Region) -> tuple[np.ndarray, np.ndarray]:
        with np.load(folder / "npz" / f"{case}.npz") as file:
            return file["image"][(slice(None), *region)].copy(), file["label_map"][region].astype(np.int32)

    def zarr_chunks(case: str, region: Region) -> tuple[np.ndarray, np.ndarray]:
        arrays = [zarr.open_array(zarr_at / f"{case}.{name}", mode="r") for name in ("image", "labels")]
        return arrays[0][region][None], arrays[1][region].astype(np.int32)

    readers = {"npy, memory-mapped": npy, "the same, kept open": kept_npy, "npz": npz, "Boxel": own}
    places = {"npy, memory-mapped": "npy", "the same, kept open": "npy", "npz": "npz", "Boxel": "store/cases"}
    if find_spec("zarr"):
        readers["zarr, its default codec"], places["zarr, its default codec"] = zarr_chunks, "zarr"
    files = {name: [path for path in (folder / at).rglob("*") if path.is_file()] for name, at in places.items()}
    return readers, files


def forget(files: Iterable[Path]) -> None:
    """Ask the system to drop what it holds of the files in memory."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds(reader: Reader, case: str, region: Region) -> float:
    start = time.perf_counter()
    reader(case, region)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=int, default=3, help="at least 3")
    parser.add_argument("--patches", type=int, default=100, help="warm; a tenth as many cold")
    parser.add_argument("--folder", type=Path, help="for the files, by default where temporary files are")
    given = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    print(f"{date.today()}, commit {commit.stdout.strip() or 'none'}, {platform.machine()}, {os.cpu_count()} CPUs")
    rng = np.random.default_rng(0)
    keep_freed_memory()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        start = time.perf_counter()
        store = make_store(Path(name), given.volumes)
        print(f"{given.volumes} volumes made and prepared in {time.perf_counter() - start:.0f} s", flush=True)
        readers, files = formats(store, Path(name))
        size = {name: sum(path.stat().st_size for path in own) for name, own in files.items()}

        def place() -> tuple[str, Region]:
            corner = [int(rng.integers(0, n - p + 1)) for n, p in zip(SHAPE, PATCH, strict=True)]
            return store.ids[rng.integers(len(store.ids))], tuple(map(slice, corner, np.add(corner, PATCH).tolist()))

        cold: dict[str, list[float]] = {name: [] for name in readers if name != "the same, kept open"}
        if hasattr(os, "posix_fadvise"):
            for run in range(given.patches // 10):
                at = place()
                for name in cold if run < 2 else cold.keys() - {"npz"}:
                    forget(path for path in files[name] if path.name.startswith(at[0]) or "zarr" in name)
                    cold[name].append(seconds(readers[name], *at))
        # All places twice: the second time the system has them in memory, whatever the size of the whole.
        places = [place() for _ in range(given.patches)]
        for _ in range(2):
            warm: dict[str, list[float]] = {name: [] for name in readers}
            for run, at in enumerate(places):
                for name in readers if run < 2 else readers.keys() - {"npz"}:
                    warm[name].append(seconds(readers[name], *at))
    print(
        "\n| format | patches/s, warm | of memory-mapped npy | patches/s, cold | bytes, of npy |\n|---|---|---|---|---|"
    )
    base = "npy, memory-mapped"
    for name, times in warm.items():
        ratio = statistics.median(warm[base]) / statistics.median(times)
        first = f"{1 / statistics.median(cold[name]):,.1f}" if cold.get(name) else "-"
        rate = f"**{1 / statistics.median(times):,.1f}**"
        print(f"| {name} | {rate} | {ratio:.0%} | {first} | {size[name] / size[base]:.0%} |")
    if not find_spec("zarr"):
        print("| zarr | not installed | | | |")


if __name__ == "__main__":
    main()

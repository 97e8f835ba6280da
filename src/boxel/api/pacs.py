"""Predict a study in a PACS: its images come from a DICOMweb server, and what is found there goes back to it."""

import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

from boxel.api.dicom_inputs import OBJECTS
from boxel.files import remove_temporaries, write_bytes
from boxel.inputs.folders import listing
from boxel.io.dicomweb import SCHEMES, Address, Server
from boxel.locks import locked
from boxel.types import Progress, silent
from boxel.wording import counted

__all__ = ["Fetched", "fetched", "pacs_address"]

FOLDER = ".boxel.fetched"
# Series that are no images of the patient, or pictures of such images (OT: secondary captures).
NOT_PREDICTED = (*OBJECTS, "OT")


def pacs_address(images: Sequence[str], send: bool, formats: Sequence[str]) -> Address | None:
    """The address of a study among what is given to predict; None if files and folders are given.

    Raises:
        ValueError: it is not alone, or there is nothing to send, or nowhere to.
    """
    schemes = tuple(f"{scheme}:/" for scheme in SCHEMES)
    named = [text for text in images if text.startswith(schemes)]
    objects = [name for name in formats if name.startswith("dicom-")]
    if send and not (named and objects):
        lacking = "a study at dicomweb://" if not named else "at least one DICOM format, such as --to dicom-sr"
        raise ValueError(f"--send: needs {lacking}; add it, or leave out --send")
    if len(named) and len(images) > 1:
        raise ValueError("dicomweb://: one study is predicted in a call, without other images; make one call for each")
    return Address.parse(named[0]) if named else None


class Fetched:
    """The images of a study as files.

    Attributes:
        folder: with a folder for each series.
    """

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder

    def send(self, out: Path | str, formats: Sequence[str]) -> int:
        """Store what was written of this study in DICOM formats, into `out/FORMAT`; returns the number of objects.

        Raises:
            ValueError: the server does not store an object; those before it are stored.
        """
        import pydicom

        files = [file for name in formats if name.startswith("dicom-") for file in listing(Path(out) / name, "*.dcm")]
        study = self.server.address.study
        tag = ["StudyInstanceUID"]
        mine = [file for file in files if pydicom.dcmread(file, specific_tags=tag).StudyInstanceUID == study]
        for file in mine:
            self.server.store(file)
        return len(mine)


@contextmanager
def fetched(address: Address | str, out: Path | str, progress: Progress = silent) -> Iterator[Fetched]:
    """The images of a study or series in a PACS, as files while this is entered; nothing of them stays after it.

    They are in a hidden folder of `out` that only its owner may enter. Should the process be killed, the next call
    removes them, or goes on with them if it is for the same images.

    Args:
        address: such as `dicomweb://HOST:PORT/PATH/studies/UID`; see `boxel.io.dicomweb`.
        out: the folder of the results.
        progress: is called after each file.

    Raises:
        ValueError: no such images, or the server does not answer as it should; names it.

    Example:
        with fetched("dicomweb://localhost:8042/dicom-web/studies/1.2.3", "out") as study:
            boxel.predict("run", study.folder, "out", formats=["dicom-sr"])
            study.send("out", ["dicom-sr"])
    """
    address = Address.parse(address) if isinstance(address, str) else address
    out, server = Path(out), Server(address)
    chosen = {uid: kind for uid, kind in server.series().items() if address.series or kind not in NOT_PREDICTED}
    if not chosen:
        raise ValueError(f"{address}: the study has no images, only reports and the like; name another one")
    is_new = not out.exists()
    folder = out / FOLDER
    try:
        with locked(out, "boxel predict", f"{FOLDER}.lock"), _ending_tidily():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                _fetch(server, list(chosen), folder, progress)
                yield Fetched(server, folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except BaseException:
        if is_new:
            with suppress(OSError):  # there are results in it
                out.rmdir()
        raise


def _fetch(server: Server, series: Sequence[str], folder: Path, progress: Progress) -> None:
    """Read what is not there yet, and remove what is of other images."""
    wanted = {folder / one / f"{uid}.dcm": (one, uid) for one in series for uid in server.instances(one)}
    remove_temporaries(folder)
    for place in listing(folder):
        if place.name not in series:
            shutil.rmtree(place)
    logging.getLogger("boxel").info(f"fetching {counted(len(wanted), 'image')} from {server.address}")
    for number, (file, (one, uid)) in enumerate(wanted.items(), start=1):
        if not file.exists():
            buffer = BytesIO()
            server.instance(one, uid).save_as(buffer, enforce_file_format=True)
            write_bytes(file, buffer.getvalue())
        os.utime(file, (0, 0))  # the same time at each call, as the same images are the same input
        progress("fetch", number, len(wanted))
    for place in {file.parent for file in wanted}:
        os.utime(place, (0, 0))


@contextmanager
def _ending_tidily() -> Iterator[None]:
    """Let a request to end (SIGTERM) leave the blocks that are entered, as an interruption does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

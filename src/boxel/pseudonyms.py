"""Pseudonyms: how output names a patient, instead of by the identifier that the data set has.

A pseudonym is a hash of the identifier and of a salt, a random number in a file of the output folder that its owner
alone can read. In one folder, a patient always has the same pseudonym; in two, it has two. Without the salt, nobody can
find out by trying which identifier a pseudonym stands for.
"""

import hashlib
import hmac
import logging
import secrets
from collections.abc import Iterable
from pathlib import Path

from boxel.files import write_new
from boxel.wording import counted

__all__ = ["SALT", "pseudonyms"]

SALT = ".boxel.salt"


def pseudonyms(groups: Iterable[str], folder: Path, files: str, *, keep: bool = False) -> dict[str, str]:
    """What the output in a folder calls each group (patient); no group stays no group.

    Args:
        groups: their names in the data set.
        folder: where the salt is; it is made if it is missing.
        files: those with the names.
        keep: groups keep their names, and a message says so.

    Raises:
        ValueError: the salt is damaged.
    """
    every = set(groups)
    number = len(every - {""})
    if keep and number:
        kept = f"the identifiers of {counted(number, 'group')} (patients) are kept, in {files}"
        logging.getLogger("boxel").warning(f"{folder}: {kept}")
    if keep or not number:
        return {group: group for group in every}
    salt = _salt(folder)
    return {group: _pseudonym(group, salt) if group else "" for group in every}


def _pseudonym(group: str, salt: bytes) -> str:
    return f"patient-{hmac.new(salt, group.encode('utf-8', 'surrogatepass'), hashlib.sha256).hexdigest()[:16]}"


def _salt(folder: Path) -> bytes:
    file = folder / SALT
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_new(file, secrets.token_hex(32).encode(), mode=0o600)
    salt = file.read_bytes()
    if len(salt) < 64:
        raise ValueError(f"{file}: is cut short; restore it, or remove it to give patients new pseudonyms")
    return salt

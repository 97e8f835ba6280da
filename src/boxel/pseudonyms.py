"""Pseudonyms: how output names a patient, instead of by the identifier that the data set has.

A pseudonym is a hash of the identifier and of a salt, a random number in a file of the output folder that its owner
alone can read. In one folder, a patient always has the same pseudonym; in two, it has two. Without the salt, nobody can
find out by trying which identifier a pseudonym stands for.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from pathlib import Path

from boxel.files import write_new

__all__ = ["SALT", "pseudonyms"]

SALT = ".boxel.salt"


def pseudonyms(folder: Path, *, keep: bool = False) -> Callable[[str], str]:
    """What the output in a folder calls each group (patient); no group stays no group.

    Args:
        folder: where the salt is; it is made if it is missing.
        keep: groups keep their names.

    Raises:
        ValueError: the salt is damaged.
    """
    if keep:
        return str
    salt = _salt(folder)

    def pseudonym(group: str) -> str:
        digest = hmac.new(salt, group.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return f"patient-{digest[:16]}" if group else ""

    return pseudonym


def _salt(folder: Path) -> bytes:
    file = folder / SALT
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_new(file, secrets.token_hex(32).encode(), mode=0o600)
    salt = file.read_bytes()
    if len(salt) < 64:
        raise ValueError(f"{file}: is cut short; restore it, or remove it to give patients new pseudonyms")
    return salt

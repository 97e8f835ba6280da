"""David Clunie's validator of DICOM objects, where it is installed."""

import shutil
import subprocess

import pytest

needs_dciodvfy = pytest.mark.skipif(not shutil.which("dciodvfy"), reason="Debian's dicom3tools is not installed")


def object_in(path):
    """The kind of object in a valid file; every error that the validator finds fails the test."""
    lines = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True).stderr.splitlines()
    errors = [line for line in lines if line.startswith(("Error", "Abort"))]
    assert not errors, f"{path}: {errors}"
    [kind] = [line for line in lines if not line.startswith("Warning")]
    return kind

"""The voxels of NIfTI files, against nibabel."""

import nibabel
import numpy as np
import pytest

from boxel.io import read_image, write_image
from boxel.types import Geometry, Image


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8", "i1", "u2", "u4"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("scaling", [(None, None), (0.37, -5.0)])
def test_nifti_voxels_are_those_of_nibabel(dtype, order, scaling, rng, tmp_path):
    header = nibabel.Nifti1Header(endianness=order)
    file = nibabel.Nifti1Image(rng.integers(0, 100, (3, 4, 5)).astype(dtype), np.eye(4), header, dtype=np.dtype(dtype))
    if scaling[0]:
        file.header.set_slope_inter(*scaling)
    nibabel.save(file, tmp_path / "x.nii.gz")
    found = read_image(tmp_path / "x.nii.gz").array
    np.testing.assert_allclose(found[0].T, nibabel.load(tmp_path / "x.nii.gz").get_fdata(), rtol=1e-5, atol=1e-4)
    assert found.flags.writeable
    assert scaling[0] or found.dtype == dtype


def test_a_damaged_byte_in_a_compressed_nifti_is_noticed(rng, tmp_path):
    write_image(tmp_path / "x.nii.gz", Image(rng.normal(size=(1, 9, 9, 9)), Geometry.plain((9, 9, 9))))
    content = bytearray((tmp_path / "x.nii.gz").read_bytes())
    content[-900] ^= 1
    (tmp_path / "x.nii.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.nii\.gz: .*copy or export it again"):
        read_image(tmp_path / "x.nii.gz")

"""Headers of MetaImage, NRRD and NIfTI: what ITK reads is read alike, and no damage reaches anything that may crash."""

import bz2
import gzip
import itertools
import re
import zlib

import numpy as np
import pytest
import SimpleITK as sitk

from boxel.io import itk, read_geometry, read_image, read_label_map, read_layout
from boxel.types import Geometry, Image

from .test_io import assert_same, oblique

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
VALUES = (0, 9, 10, 32, 45, 48, 57, 65, 127, 128, 255)
MHA = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\n{}DimSize = 6 5 4\nElementType = MET_{}\nElementDataFile = {}\n"
)
NRRD = "NRRD0004\n# a comment\ntype: {}\ndimension: 3\nsizes: 6 5 4\n{}encoding: {}\n"
PLACED = "space: {}\nspace directions: (0,2,0) (-1,0,0) (0,0,3)\nspace origin: (10,20,30)\n"


def by_itk(path) -> Image:
    """What SimpleITK reads."""
    image = sitk.ReadImage(str(path))
    d = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(d, d)[:, ::-1]
    array = sitk.GetArrayFromImage(image)
    array = np.moveaxis(array, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else array[None]
    geometry = Geometry(
        image.GetSize()[::-1], image.GetSpacing()[::-1], image.GetOrigin(), tuple(map(tuple, direction))
    )
    return Image(array, geometry)


def assert_read_alike(path) -> Image:
    found, expected = read_image(path), by_itk(path)
    np.testing.assert_array_equal(found.array, expected.array)
    assert found.array.dtype == expected.array.dtype
    assert found.array.flags.writeable
    assert found.array.flags.c_contiguous
    assert_same(found.geometry, expected.geometry)
    assert read_geometry(path) == found.geometry
    assert read_layout(path) == (len(found.array), found.geometry.shape)
    return found


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_itk_writes_is_read_like_itk_reads_it(ndim, suffix, compress, dtype, rng, tmp_path):
    shape = (4, 5, 6)[-ndim:]
    for num_channels in (1, 2, 3):
        image = Image(rng.integers(0, 100, (num_channels, *shape)).astype(dtype), oblique(shape))
        itk.write(tmp_path / f"x{suffix}", image, compress)
        found = assert_read_alike(tmp_path / f"x{suffix}")
        np.testing.assert_array_equal(found.array, image.array)
        assert found.remarks == ()


@pytest.mark.parametrize(
    "fields",
    [
        "TransformMatrix = 0 1 0 -1 0 0 0 0 1\nOffset = 1 2 3\nElementSpacing = 1 2 3\n",
        "Rotation = 0 1 0 1 0 0 0 0 -1\nPosition = 1 2 3\nElementSize = 1 2e0 +.5\n",
        "Orientation = 1 0 0 0 1 0 0 0 1\nOrigin = 1 2 3\nElementSpacing = 1 1 1\nElementSize = 7 7 7\n",
        "ElementSpacing = 1 1 -2\n",
        "Comment = a = b: c\nSomething = else\nCenterOfRotation = 0 0 0\n\nAnatomicalOrientation = RAI\n",
        "BinaryDataByteOrderMSB = False\nElementByteOrderMSB = True\n",
    ],
)
@pytest.mark.parametrize("change", [("", ""), (" = ", "="), ("\n", "\r\n"), (" = ", " : ")])
def test_fields_of_metaimage_mean_what_they_mean_to_itk(fields, change, rng, tmp_path):
    head = MHA.format(fields, "SHORT", "LOCAL").replace(*change) if change[0] else MHA.format(fields, "SHORT", "LOCAL")
    (tmp_path / "x.mha").write_bytes(head.encode() + rng.bytes(240))
    assert_read_alike(tmp_path / "x.mha")


@pytest.mark.parametrize(
    "fields",
    [
        *(
            PLACED.format(space)
            for space in ("left-posterior-superior", "RAS", "LAS", "scanner-xyz", "3D-right-handed")
        ),
        "space dimension: 3\nspace directions: (0,2,0) (-1,0,0) (0,0,3)\n",
        "spacings: 1 2 3\naxis mins: 1 2 3\n",
        "spacings: 1 2 -3\naxis mins: 1 2 3\ncenterings: node node node\n",
        "kinds: vector domain domain\nspacings: nan 2 3\n",
        "kinds: domain list domain\n",
        "kinds: domain domain list\nkey:=value\ncontent: something\n",
    ],
)
@pytest.mark.parametrize("change", [("", ""), ("\n", "\r\n")])
def test_fields_of_nrrd_mean_what_they_mean_to_itk(fields, change, rng, tmp_path):
    head = NRRD.format("int16", fields, "raw") + "endian: big\n\n"
    head = head.replace(*change) if change[0] else head
    (tmp_path / "x.nrrd").write_bytes(head.encode() + rng.bytes(240))
    assert_read_alike(tmp_path / "x.nrrd")


@pytest.mark.parametrize(
    "skip", ["", "line skip: 2\n", "byte skip: 5\n", "line skip: 1\nbyte skip: 5\n", "byte skip: -1\n"]
)
@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii", "hex"])
def test_encodings_of_nrrd(encoding, skip, tmp_path):
    voxels = np.arange(-60, 60, dtype="<i2").reshape(4, 5, 6)
    before = b"abcde" if "byte" in skip else b""
    packed = {
        "raw": before + voxels.tobytes(),
        "gzip": gzip.compress(before + voxels.tobytes()),
        "bzip2": bz2.compress(before + voxels.tobytes()),
        "ascii": before + " ".join(map(str, voxels.ravel())).encode(),
        "hex": before + voxels.tobytes().hex().encode(),
    }[encoding]
    packed = b"one\ntwo\n"[: 4 * int("line" in skip) * (1 + ("2" in skip))] + packed
    head = NRRD.format("short", skip, encoding) + "endian: little\n"
    (tmp_path / "x.nrrd").write_bytes(head.encode() + b"\n" + packed)
    (tmp_path / "y.nhdr").write_text(head + "data file: y.data\n")
    (tmp_path / "y.data").write_bytes(packed)
    if "-1" in skip and encoding != "raw":
        with pytest.raises(ValueError, match=r"x\.nrrd: .*skip"):
            read_image(tmp_path / "x.nrrd")
        return
    for name in ("x.nrrd", "y.nhdr"):
        np.testing.assert_array_equal(read_image(tmp_path / name).array[0], voxels)
    if encoding != "bzip2":
        assert_read_alike(tmp_path / "x.nrrd")


def test_voxels_in_a_list_of_files_or_a_pattern(rng, tmp_path):
    voxels = rng.integers(0, 99, (4, 5, 6)).astype("<i2")
    names = [f"p{number}.raw" for number in range(1, 5)]
    for name, plane in zip(names, voxels, strict=True):
        (tmp_path / name).write_bytes(plane.tobytes())
    mhd, nhdr = MHA.format("", "SHORT", "{}"), NRRD.format("short", "", "raw") + "endian: little\ndata file: {}\n"
    listed = "LIST\n" + "\n".join(names)
    for head, files in itertools.product((mhd, nhdr), (listed, "p%d.raw 1 4 1")):
        path = tmp_path / ("x.mhd" if head is mhd else "x.nhdr")
        path.write_text(head.format(files))
        np.testing.assert_array_equal(assert_read_alike(path).array[0], voxels)
        for wrong in (
            listed.replace("p3", "q"),
            "p%d.raw 1 9 1",
            "p%s.raw 1 4 1",
            "p%d.raw 1 4 0",
            "p%99999999d.raw 1 4 1",
        ):
            path.write_text(head.format(wrong))
            with pytest.raises(ValueError, match=path.name):
                read_image(path)


def test_voxels_of_metaimage_as_text(tmp_path):
    head = MHA.format("", "SHORT", "LOCAL").replace("True", "False")
    voxels = np.arange(-60, 60)
    (tmp_path / "x.mha").write_text(head + " ".join(map(str, voxels)) + "\n")
    np.testing.assert_array_equal(read_image(tmp_path / "x.mha").array.ravel(), voxels)
    (tmp_path / "x.mha").write_text(head + " ".join(map(str, voxels * 1000)) + "\n")
    with pytest.raises(ValueError, match=r"x\.mha: "):
        read_image(tmp_path / "x.mha")


def samples(tmp_path):
    """Small files of every format, with their headers' lengths."""
    image = Image(np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4), oblique((2, 3, 4)))
    for name in ("a.mha", "b.mha", "a.nrrd", "b.nrrd", "a.nii", "b.nii.gz", "a.hdr"):
        itk.write(tmp_path / name, image, name.startswith("b"))
        content = (tmp_path / name).read_bytes()
        ends = {".mha": content.find(b"LOCAL") + 6, ".nrrd": content.find(b"\n\n") + 2}
        yield tmp_path / name, content, ends.get((tmp_path / name).suffix, min(len(content), 352))


def test_no_flipped_byte_of_a_header_does_more_than_an_error_that_names_the_file(tmp_path, rng):
    """Each byte is changed to several values; what is still read has the shape that the header says."""
    for path, content, end in samples(tmp_path):
        outcomes = {"read": 0, "refused": 0}
        for place in range(end):
            for value in {content[place] ^ 1, int(rng.choice(VALUES))} - {content[place]}:
                path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
                try:
                    image = read_image(path)
                    assert image.array.shape == (len(image.array), *image.geometry.shape)
                    assert np.isfinite([*image.geometry.spacing, *image.geometry.origin]).all()
                    assert read_geometry(path) == image.geometry
                    outcomes["read"] += 1
                except ValueError as error:
                    message = str(error)
                    outcomes["refused"] += 1
                    assert re.match(rf"{re.escape(str(path))}: .*; ", message, re.DOTALL), message
        assert min(outcomes.values()) > 9, (path, outcomes)


def test_no_cut_and_no_inserted_garbage_does_more(tmp_path, rng):
    for path, content, end in samples(tmp_path):
        for place in rng.integers(0, end, 30).tolist():
            for changed in (
                content[:place],
                content[:place] + rng.bytes(int(rng.integers(1, 200))) + content[place:],
                content[:place] + content[place + 9 :],
                content[:place] + b"9" * 400 + content[place:],
            ):
                path.write_bytes(changed)
                for read in (read_image, read_label_map, read_geometry, read_layout):
                    try:
                        read(path)
                    except ValueError as error:
                        assert str(path) in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("name", "head", "problem"),
    [
        ("x.mha", MHA.format("", "SHORT", "LOCAL").replace("DimSize = 6 5 4", "DimSize = 6 5"), "DimSize '6 5'"),
        ("x.mha", MHA.format("", "SHORT", "LOCAL").replace("6 5 4", "6 -5 4"), "of at least 1"),
        ("x.mha", MHA.format("", "SHORT", "LOCAL").replace("DimSize", "DimSiye"), "no DimSize"),
        ("x.mha", MHA.format("", "OTHER", "LOCAL"), "ElementType 'MET_OTHER'"),
        ("x.mha", MHA.format("ElementSpacing = 1 nan 1\n", "SHORT", "LOCAL"), "where the voxels lie"),
        ("x.mha", MHA.format("ElementSpacing = 1 0 1\n", "SHORT", "LOCAL"), "where the voxels lie"),
        ("x.mha", MHA.format("ElementSpacing = 1 1_0 1\n", "SHORT", "LOCAL"), "3 numbers are needed"),
        ("x.mha", MHA.format("CompressedData = perhaps\n", "SHORT", "LOCAL"), "True or False"),
        ("x.mha", MHA.format("HeaderSize = 9\n", "SHORT", "LOCAL"), "HeaderSize 9"),
        ("x.mha", MHA.format("", "SHORT", "LOCAL").replace("6 5 4", "60000 60000 60000"), "cut short"),
        (
            "x.mha",
            MHA.format("", "SHORT", "LOCAL").replace("NDims = 3", "NDims = 999999999"),
            "999999999 whole numbers",
        ),
        ("x.mha", MHA.format("", "SHORT", "/dev/zero"), "missing"),
        ("x.nrrd", NRRD.format("short", "", "raw") + "\n", "little or big"),
        ("x.nrrd", NRRD.format("block", "", "raw") + "\n", "type 'block'"),
        (
            "x.nrrd",
            NRRD.format("short", "spacinfs: 1 1 1\n", "raw") + "endian: little\n\n",
            "'spacinfs', which is unknown",
        ),
        ("x.nrrd", NRRD.format("uchar", "sizes: 6 5 4\n", "raw") + "\n", "'sizes', twice"),
        ("x.nrrd", NRRD.format("uchar", "kinds: complex domain domain\n", "raw") + "\n", "kind 'complex'"),
        ("x.nrrd", NRRD.format("uchar", PLACED.format("LPST"), "raw") + "\n", "space 'LPST'"),
        ("x.nrrd", NRRD.format("uchar", PLACED.format("LPS").replace("(0,0,3)", "(0,0)"), "raw") + "\n", "3 numbers"),
        (
            "x.nrrd",
            NRRD.format("uchar", PLACED.format("LPS").replace("(0,0,3)", "(0,0,0)"), "raw") + "\n",
            "where the voxels lie",
        ),
        ("x.nrrd", NRRD.format("uchar", "space: LPS\nspacings: 1 1 1\n", "raw") + "\n", "without space directions"),
        ("x.nrrd", NRRD.format("uchar", "line skip: 3\n", "raw") + "\n", "cut short"),
        ("x.nrrd", NRRD.format("uchar", "", "raw").replace("6 5 4", "6 5 0") + "\n", "of at least 1"),
    ],
)
def test_what_is_wrong_with_a_header_is_said(name, head, problem, tmp_path):
    (tmp_path / name).write_bytes(head.encode() + bytes(240 if "line skip" not in head else 119))
    with pytest.raises(ValueError, match=rf"{name}: .*{problem}.*; "):
        read_image(tmp_path / name)


def test_no_packed_voxels_are_unpacked_beyond_what_the_header_claims(tmp_path):
    for encoding, pack in (("gzip", gzip.compress), ("bzip2", bz2.compress)):
        head = (NRRD.format("uchar", "", encoding) + "\n").encode()
        (tmp_path / "x.nrrd").write_bytes(head + pack(bytes(50 << 20)))
        with pytest.raises(ValueError, match=r"x\.nrrd: .*more than its header claims"):
            read_image(tmp_path / "x.nrrd")
        (tmp_path / "x.nrrd").write_bytes(head + pack(bytes(120))[:-3])
        with pytest.raises(ValueError, match=r"x\.nrrd: .*(cut short|damaged)"):
            read_image(tmp_path / "x.nrrd")
    (tmp_path / "x.mha").write_bytes(
        MHA.format("CompressedData = True\n", "UCHAR", "LOCAL").encode() + zlib.compress(bytes(50 << 20))
    )
    with pytest.raises(ValueError, match=r"x\.mha: .*more than its header claims"):
        read_image(tmp_path / "x.mha")


def test_a_nifti_file_without_its_magic_number_or_with_voxels_inside_the_header_is_refused(tmp_path):
    itk.write(tmp_path / "x.nii", Image(np.zeros((1, 2, 3, 4), np.int16), oblique((2, 3, 4))), False)
    content = (tmp_path / "x.nii").read_bytes()
    (tmp_path / "x.nii").write_bytes(content[:344] + b"m+1\0" + content[348:])
    with pytest.raises(ValueError, match="magic number"):
        read_image(tmp_path / "x.nii")
    for offset in (np.float32(100), np.float32(-5), np.float32("nan"), np.float32("inf")):
        (tmp_path / "x.nii").write_bytes(content[:108] + offset.tobytes() + content[112:])
        with pytest.raises(ValueError, match=r"x\.nii: its header claims that the voxels begin at byte"):
            read_image(tmp_path / "x.nii")

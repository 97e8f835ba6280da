"""Made-up fingerprints, as `boxel prepare` measures them."""

from boxel.preparation.fingerprint import CaseRecord, Fingerprint, Intensity


def data(shapes, spacings, sizes, channels=("MRI",)):
    """A fingerprint of one case per shape; all objects are in the first."""
    cases = [
        CaseRecord(id=f"c{k}", shape=shape, spacing=spacing)
        for k, (shape, spacing) in enumerate(zip(shapes, spacings, strict=True))
    ]
    cases[0] = cases[0].model_copy(update={"labels": (0,) * len(sizes), "sizes": sizes})
    values = {"mean": 40, "std": 20, "minimum": -900, "maximum": 3000}
    percentiles = {"percentile_00_5": -80, "median": 41, "percentile_99_5": 200}
    intensities = [Intensity(channel=channel, **values, **percentiles) for channel in channels]
    most = {"least": 0, "median": 0, "most": len(sizes), "images_without": len(shapes) - 1}
    return Fingerprint(
        name="data", ndim=len(shapes[0]), channels=channels, classes=("a",), intensities=intensities,
        intensities_of="objects", objects={}, objects_per_image=most, cases=cases,
    )  # fmt: skip


def cubes(ndim, *edges):
    return tuple((float(edge),) * ndim for edge in edges)

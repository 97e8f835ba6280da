"""The formats of the package: each file registers its own, with its `detect` beside its `read` and `write`.

The order is that of `boxel.export.recognise`, read from below: a file name says more than JSON beside an image, and
nnDetection's pickles are complete where its JSON may stand beside them.
"""

from importlib import import_module

OWN = (
    "boxel", "label_maps", "mitk", "slicer", "csv", "coco", "picai", "grand_challenge", "nifti", "nndetection",
    "dicom_sr", "dicom_seg", "dicom_rtstruct", "dicom_pr", "dicom_sc", "preview",
)  # fmt: skip
for _name in OWN:
    import_module(f"boxel.export.formats.{_name}")

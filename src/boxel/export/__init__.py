"""Detections as files that other programs read, and back."""

from boxel.export import (
    boxel_json,
    coco,
    dicom_seg,
    dicom_sr,
    grand_challenge,
    mitk,
    nifti,
    picai,
    preview,
    slicer,
    table,
)
from boxel.export.boxel_json import json_schema, read_detections, read_folder, write_detections
from boxel.export.formats import Prediction, get_format, list_formats, register_export

__all__ = [
    "Prediction",
    "get_format",
    "json_schema",
    "list_formats",
    "read_detections",
    "read_folder",
    "register_export",
    "write_detections",
]

for name, write, read in (
    ("boxel", boxel_json.write_boxel, boxel_json.read_boxel),
    ("csv", table.write_csv, table.read_csv),
    ("coco", coco.write_coco, coco.read_coco),
    ("nifti", nifti.write_nifti, nifti.read_nifti),
    ("slicer", slicer.write_slicer, slicer.read_slicer),
    ("mitk", mitk.write_mitk, mitk.read_mitk),
    ("grand-challenge", grand_challenge.write_grand_challenge, grand_challenge.read_grand_challenge),
    ("picai", picai.write_picai, picai.read_picai),
    ("dicom-sr", dicom_sr.write_sr, dicom_sr.read_sr),
    ("dicom-seg", dicom_seg.write_seg, dicom_seg.read_seg),
):
    register_export(name, write, read)
register_export("preview", preview.write_preview)

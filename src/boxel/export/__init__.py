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

register_export("boxel", boxel_json.write_boxel, boxel_json.read_boxel, "Boxel JSON, one file per case")
register_export("csv", table.write_csv, table.read_csv, "one table, a line per detection")
register_export("coco", coco.write_coco, coco.read_coco, "COCO results, and the images they count")
register_export("nifti", nifti.write_nifti, nifti.read_nifti, "label maps and JSON, as nnDetection writes them")
register_export("slicer", slicer.write_slicer, slicer.read_slicer, "3D Slicer ROI markups (.mrk.json)")
register_export("mitk", mitk.write_mitk, mitk.read_mitk, "MITK ROI, version 2")
register_export(
    "grand-challenge",
    grand_challenge.write_grand_challenge,
    grand_challenge.read_grand_challenge,
    "2D boxes and points in mm",
)
register_export("picai", picai.write_picai, picai.read_picai, "detection maps of picai_eval")
register_export("dicom-sr", dicom_sr.write_sr, dicom_sr.read_sr, "structured reports, TID 1500 (boxel[dicom])")
register_export("dicom-seg", dicom_seg.write_seg, dicom_seg.read_seg, "segmentations (boxel[dicom])")
register_export("preview", preview.write_preview, None, "a picture of each detection in one PNG")

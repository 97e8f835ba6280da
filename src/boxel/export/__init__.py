"""Detections as files that other programs read, and back: one file per format in `boxel.export.formats`."""

from boxel.export import formats
from boxel.export.boxel_json import json_schema, read_detections, write_detections
from boxel.export.prediction import DatasetInfo, ImageGeometries, Prediction
from boxel.export.registry import Format, get_format, list_formats, recognise, register_export

__all__ = [
    "DatasetInfo",
    "Format",
    "ImageGeometries",
    "Prediction",
    "formats",
    "get_format",
    "json_schema",
    "list_formats",
    "read_detections",
    "recognise",
    "register_export",
    "write_detections",
]

"""Detections as files that other programs read."""

from boxel.export.boxel_json import json_schema, read_detections, read_folder, write_detections

__all__ = ["json_schema", "read_detections", "read_folder", "write_detections"]

"""A run or an evaluation as one HTML page."""

from boxel.reporting.page import ReportContent, write_report
from boxel.reporting.pictures import Picture, choose_pictures

__all__ = ["Picture", "ReportContent", "choose_pictures", "write_report"]

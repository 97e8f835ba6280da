"""A run or an evaluation as one HTML page."""

from boxel.reporting.page import Detail, ReportContent, write_report
from boxel.reporting.pictures import Picture, choose_pictures
from boxel.reporting.raster import write_figures

__all__ = ["Detail", "Picture", "ReportContent", "choose_pictures", "write_figures", "write_report"]

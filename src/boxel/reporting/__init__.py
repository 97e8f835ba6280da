"""The report of a run: one HTML page, and the charts of an evaluation as PNG files."""

from boxel.reporting.figures import write_figures, write_segmentation_figures
from boxel.reporting.page import PAGE_BEGINS, Detail, ReportContent, write_report
from boxel.reporting.pictures import Picture, choose_pictures

__all__ = [
    "PAGE_BEGINS",
    "Detail",
    "Picture",
    "ReportContent",
    "choose_pictures",
    "write_figures",
    "write_report",
    "write_segmentation_figures",
]

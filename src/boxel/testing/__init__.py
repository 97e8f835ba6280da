"""Checks for what you add to Boxel: the same that the package's own parts pass."""

from boxel.testing.exporters import check_exporter

__all__ = ["check_exporter"]

"""Checks for what you add to Boxel: the same that the package's own parts pass."""

from boxel.testing.exporters import check_exporter
from boxel.testing.models import check_model
from boxel.testing.readers import check_reader

__all__ = ["check_exporter", "check_model", "check_reader"]

"""Checks for parts that you write yourself: run them in your own tests."""

from boxel.testing.readers import check_reader

__all__ = ["check_reader"]

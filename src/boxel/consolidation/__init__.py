"""From every box of every view to one box per object; needs no network, so it can be repeated and swept."""

from boxel.consolidation.config import ConsolidateConfig
from boxel.consolidation.merging import consolidate
from boxel.consolidation.raw_file import RawPrediction, read_raw, write_raw

__all__ = ["ConsolidateConfig", "RawPrediction", "consolidate", "read_raw", "write_raw"]

"""Pure, rank-generic functions on sets of boxes: torch in, torch out; numpy in, numpy out."""

"""When `max_detections` leaves out what may be an object."""

import logging
from typing import Any

from boxel.wording import counted_of

CAP_SCORE = 0.1  # every image has many detections below this, and hardly an object among them


def leaves_out(scores: Any, most: int) -> bool:
    """Whether the first `most` of descending `scores (n,)` leave out one of 0.1 or more."""
    return len(scores) > most and float(scores[most]) >= CAP_SCORE


def warn_of_caps(capped: int, total: int) -> None:
    """Log how many of the images have more such detections than were kept."""
    if capped:
        logging.getLogger("boxel").warning(
            f"{counted_of(capped, total, 'image', 'has', 'have')} more detections than max_detections keeps: some with "
            f'scores of {CAP_SCORE} or more were left out ("capped" in the JSON); to keep more, predict with '
            "--set plan.max_detections=N, or consolidate with --set consolidate.max_detections=N"
        )

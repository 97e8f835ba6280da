"""Views of an image: the mirrored views, scales and checkpoints of raw boxes, and a choice of some of them."""

import itertools
from collections.abc import Sequence
from typing import Any

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_serializer

from boxel.config import Config, did_you_mean

KINDS = ("identity", "plane", "all")


def view_axes(views: str, ndim: int) -> list[tuple[int, ...]]:
    """The mirrored axes of each view, identity first; `views` is one of `KINDS`."""
    axes = {"identity": (), "plane": range(max(0, ndim - 2), ndim), "all": range(ndim)}[views]
    return [tuple(c) for n in range(len(axes) + 1) for c in itertools.combinations(axes, n)]


def view_number(checkpoint: int, scale: int, mirror: int, *, num_scales: int, num_mirrors: int) -> int:
    """The number of a view in `RawDetections.views`: mirrored views count first, then scales, then checkpoints."""
    return (checkpoint * num_scales + scale) * num_mirrors + mirror


class RecordedViews(Config):
    """The views that a raw prediction was made in; `view_number` numbers them.

    Attributes:
        mirrors: the mirrored axes of each view, identity first.
        checkpoints: number of checkpoints of each run; those of a run follow each other, best first.
        scales: the factors by which the prepared image was resized.
    """

    mirrors: tuple[tuple[NonNegativeInt, ...], ...]
    checkpoints: tuple[PositiveInt, ...]
    scales: tuple[PositiveFloat, ...] = (1.0,)

    @model_serializer(mode="wrap")
    def _as_before(self, handler: Any) -> dict[str, Any]:
        """Without the scale 1, which earlier versions of Boxel had only, so that they read such files."""
        values: dict[str, Any] = handler(self)
        if self.scales == (1.0,):
            del values["scales"]
        return values

    @property
    def number(self) -> int:
        """How many there are."""
        return len(self.mirrors) * len(self.scales) * sum(self.checkpoints)

    def choose(
        self, views: int | str | None, checkpoints: int | None, ndim: int
    ) -> tuple["RecordedViews", Sequence[int]]:
        """Some of the views, and the numbers that they have among all.

        Args:
            views: the first so many mirrored views of each scale, or one of `KINDS`; None keeps all.
            checkpoints: the best so many checkpoints of each run; None keeps all.
            ndim: number of axes of the network.

        Raises:
            ValueError: they were not recorded.
        """
        mirrors, most = self._mirrors(views, ndim), min(self.checkpoints)
        if checkpoints is not None and not 1 <= checkpoints <= most:
            raise ValueError(f"checkpoints {checkpoints}: must be 1 to {most}, the number that predicted in each run")
        kept = tuple(checkpoints or number for number in self.checkpoints)
        first = itertools.accumulate(self.checkpoints, initial=0)
        members = [begin + rank for begin, number in zip(first, kept, strict=False) for rank in range(number)]
        places = [self.mirrors.index(axes) for axes in mirrors]
        sizes = {"num_scales": len(self.scales), "num_mirrors": len(self.mirrors)}
        each = itertools.product(members, range(len(self.scales)), places)
        return RecordedViews(mirrors=mirrors, checkpoints=kept, scales=self.scales), [
            view_number(member, scale, place, **sizes) for member, scale, place in each
        ]

    def _mirrors(self, views: int | str | None, ndim: int) -> tuple[tuple[int, ...], ...]:
        if views is None:
            return self.mirrors
        number = int(views) if str(views).isdecimal() else None
        if number is not None:
            if not 1 <= number <= len(self.mirrors):
                raise ValueError(f"views {number}: must be 1 to {len(self.mirrors)}, the number of recorded views")
            return self.mirrors[:number]
        if views not in KINDS:
            raise ValueError(f"views {views!r}{did_you_mean(str(views), KINDS)}; or give a number")
        wanted = tuple(view_axes(str(views), ndim))
        if not set(wanted) <= set(self.mirrors):
            raise ValueError(
                f"views {views!r}: not recorded, the prediction has {len(self.mirrors)} mirrored views; predict again "
                f"with --set predict.views={views}"
            )
        return wanted

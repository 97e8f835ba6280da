"""How the values of each channel are normalised: the rules, and the reasons for them."""

import re
import warnings
from collections.abc import Sequence
from typing import Literal

from boxel.preparation.fingerprint import Fingerprint
from boxel.types import Normalisation

Kind = Literal["ct", "z_score", "fixed", "none"]


def normalisation_rules(
    fingerprint: Fingerprint,
    kinds: Sequence[Kind] | None,
    window: tuple[float, float] | None,
    fixed: Sequence[tuple[float, float]],
    why: dict[str, str],
) -> tuple[Normalisation, ...]:
    """One rule per channel.

    Args:
        kinds: of each channel; None: by their names.
        window: lower and upper end for `ct` channels; None: those of the data.
        fixed: mean and standard deviation of each `fixed` channel.
        why: receives the explanation.

    Raises:
        ValueError: not one kind per channel.
    """
    kinds = kinds or tuple(map(normalisation_kind, fingerprint.channels))
    if len(kinds) != len(fingerprint.channels):
        raise ValueError(
            f"normalisation: {len(kinds)} kinds for {len(fingerprint.channels)} channels; give one for each"
        )
    if window and "ct" not in kinds:
        warnings.warn(
            f"plan.window has no effect; no channel is normalised as ct ({', '.join(fingerprint.channels)}), "
            "set plan.normalisation for that",
            stacklevel=3,
        )
    rules, sentences = [], []
    given = iter(fixed)
    for kind, channel in zip(kinds, fingerprint.intensities, strict=True):
        if kind == "ct" and window:
            low, high = window
            rules.append(Normalisation(kind="ct", lower=low, upper=high, mean=(low + high) / 2, std=(high - low) / 2))
            sentences.append(f"{channel.channel}: clipped to {low:g}..{high:g} as set, mapped to -1..1.")
        elif kind == "ct":
            low, high = channel.percentile_00_5, channel.percentile_99_5
            std = channel.std or 1.0
            rules.append(Normalisation(kind="ct", lower=low, upper=high, mean=channel.mean, std=std))
            sentences.append(
                f"{channel.channel}: clipped to {low:.4g}..{high:.4g} (0.5 and 99.5 percentiles of the "
                f"{fingerprint.intensities_of}), minus {channel.mean:.4g}, divided by {std:.4g}."
            )
        elif kind == "fixed":
            mean, std = next(given)
            rules.append(Normalisation(kind="fixed", mean=mean, std=std))
            sentences.append(f"{channel.channel}: minus {mean:g}, divided by {std:g}, as set.")
        else:
            rules.append(Normalisation(kind=kind))
            text = "each image by its own mean and standard deviation" if kind == "z_score" else "unchanged"
            sentences.append(f"{channel.channel}: {text}.")
    why["normalisation"] = " ".join(sentences)
    return tuple(rules)


def normalisation_kind(channel: str) -> Kind:
    """`ct` for a channel named CT, `none` for one named none or raw, otherwise `z_score`."""
    words = re.split(r"[^a-z0-9]+", channel.lower())
    if "ct" in words:
        return "ct"
    return "none" if words in (["none"], ["raw"], ["nonorm"]) else "z_score"

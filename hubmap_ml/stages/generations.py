"""Generations of pseudo-labels: labels of networks that learnt from none are of generation 1, what networks make that
learnt from these of generation 2, and so on.

A run of `pseudo-label` carries the generation of what it made; a training, and a version of what was trained, that of
the labels that it learnt from, directly or through the weights that it started from.
"""

from collections.abc import Mapping, Sequence

from hubmap_ml.tracking import GENERATION, LABELS


def generation_in(tags: Mapping[str, str]) -> int:
    """Return the generation that stands in tags; 0 for what learnt from no pseudo-labels."""
    return int(tags.get(GENERATION, "0"))


def generation_tags(origins: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the tags of what was made from things with these tags: the latest generation and the labels' names."""
    names = {name for tags in origins for name in tags.get(LABELS, "").split(",") if name}
    latest = max((generation_in(tags) for tags in origins), default=0)
    return {GENERATION: str(latest), LABELS: ",".join(sorted(names))} if latest else {}


def in_words(tags: Mapping[str, str]) -> str:
    """Say from which pseudo-labels something learnt: ``pseudo-labels round1 of generation 1``; empty for none."""
    generation = generation_in(tags)
    return f"pseudo-labels {tags.get(LABELS, '')} of generation {generation}" if generation else ""

"""What pages with galleries share: their styles, and that they do not grow too large."""

import logging
from collections.abc import Callable

from hubmap_ml.viz.gallery import SIZES, PictureSize

log = logging.getLogger(__name__)

LARGEST = 15_000_000
"""Bytes that a page may have; pictures become fewer and smaller until it does."""
STYLES = ("comparison.css", "gallery.css", "graph.css")


def within(largest: int, render: Callable[[PictureSize], str]) -> str:
    """Return a page with the best pictures that let it have at most ``largest`` bytes; the smallest if none does."""
    text = ""
    for size in SIZES:
        text = render(size)
        if len(text.encode()) <= largest:
            return text
        log.info("the page has %.1f MB: smaller pictures", len(text.encode()) / 1e6)
    return text

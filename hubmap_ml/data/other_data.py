"""Images that were prepared elsewhere, put beside ours in one table, so that leaks between them can be looked for."""

from collections.abc import Mapping

import numpy as np

from hubmap_ml.data.fingerprints import Fingerprints
from hubmap_ml.instances import Images


def beside(
    images: Images, prints: Fingerprints, other: Images, other_prints: Fingerprints, *, name: str
) -> tuple[Images, Fingerprints, Mapping[str, str]]:
    """Append images of other prepared data to a table.

    An image that both have, under the same id with the same pixels, is ours. Where there is one, the two were prepared
    from the same source: their slides and groups mean the same. Else they only share names, and are kept apart.

    Args:
        images, prints: ours.
        other, other_prints: the others, in the same order.
        name: of the other data; part of the new ids.

    Returns:
        The larger table, its fingerprints, and for each id of ``other`` the id that the image has there.
    """
    ours = dict(zip(prints.ids, prints.digests, strict=True))
    same = np.array(
        [ours.get(i) == digest for i, digest in zip(other_prints.ids, other_prints.digests, strict=True)],
        np.bool_,
    )
    rows = np.flatnonzero(~same)
    new = other.take(rows)
    ids = np.array([f"{name}/{i}" for i in new.ids], dtype=object)
    apart: dict[str, object] = {}
    if not same.any():
        apart = {
            column: np.array(
                [f"{name}/{text}" if text else "" for text in getattr(new, column)], dtype=object
            )
            for column in ("slides", "groups")
        }
    new = new.replace(ids=ids, original_ids=ids, **apart)
    table = Images.concatenate([images.replace(original_ids=images.ids), new])
    both = Fingerprints(
        table.ids,
        np.concatenate([prints.digests, other_prints.digests[rows]]),
        np.concatenate([prints.thumbnails, other_prints.thumbnails[rows]]),
        np.concatenate([prints.blank, other_prints.blank[rows]]),
    )
    known = dict(zip(other.ids, other.ids, strict=True))
    return table, both, known | dict(zip(other.ids[rows], ids, strict=True))

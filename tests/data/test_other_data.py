"""Images of two preparations in one table: the same ones are one, names of other sources mean nothing."""

import numpy as np

from hubmap_ml.data import beside, leak_report
from hubmap_ml.data.fingerprints import Fingerprints, fingerprint
from hubmap_ml.instances import Images
from hubmap_ml.spec import LeakLevel

PICTURES = np.random.default_rng(5).integers(0, 255, (6, 48, 48, 3), np.uint8)


def table(pictures: dict[str, int], slide: str) -> tuple[Images, Fingerprints]:
    """Images by id, each the picture of that number, all of one slide, side by side."""
    found = [fingerprint(PICTURES[number]) for number in pictures.values()]
    images = Images.build(
        ids=list(pictures),
        heights=48,
        widths=48,
        slides=slide,
        original_ids=list(range(len(pictures))),
        positions=[(0, 48 * number) for number in pictures.values()],
    )
    digests, small, blank = zip(*found, strict=True)
    return images, Fingerprints(images.ids, np.array(digests, object), np.array(small), np.array(blank))


def level(other: tuple[Images, Fingerprints], *, scored: str, seen: str) -> tuple[LeakLevel, list[str]]:
    ours = table({"a": 0, "b": 1}, "7")
    images, prints, names = beside(*ours, *other, name="else")
    assert len(images) == len(prints) == len(set(images.ids))
    assert prints.ids.tolist() == images.ids.tolist()
    report = leak_report(images, prints, scored=[scored], seen={"weights' finetune": [names[seen]]})
    return report.level, report.pairs["kind"].tolist()


def test_other_sources_share_names_only() -> None:
    other = table({"a": 3, "c": 4}, "7")
    assert level(other, scored="a", seen="a") == (LeakLevel.NONE, [])
    assert level(other, scored="b", seen="c") == (LeakLevel.NONE, [])


def test_the_same_picture_under_another_name_is_found() -> None:
    other = table({"x": 1, "c": 4}, "9")
    assert level(other, scored="b", seen="x") == (LeakLevel.DUPLICATE, ["exact_duplicate"])
    assert level(other, scored="a", seen="x") == (LeakLevel.NONE, [])


def test_another_cut_of_our_own_source_keeps_its_ids_slides_and_places() -> None:
    other = table({"a": 0, "c": 2}, "7")
    assert level(other, scored="a", seen="a") == (LeakLevel.TRAINED_ON, ["trained_on"])
    assert level(other, scored="b", seen="c") == (LeakLevel.NEIGHBOUR, ["neighbour"])
    assert level(other, scored="a", seen="c") == (LeakLevel.SLIDE, [])

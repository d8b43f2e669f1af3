import pytest

from hubmap_ml.spec import InputError, LeakLevel


def test_levels_are_ordered_and_the_last_two_void_a_score() -> None:
    words = [str(level) for level in sorted(LeakLevel)]
    assert words == ["none", "slide", "neighbour", "duplicate", "trained_on"]
    assert [level.voids_a_score for level in sorted(LeakLevel)] == [False, False, False, True, True]
    assert LeakLevel.worst([LeakLevel.SLIDE, LeakLevel.DUPLICATE, LeakLevel.NONE]) is LeakLevel.DUPLICATE
    assert LeakLevel.worst([]) is LeakLevel.NONE


def test_a_level_is_read_by_its_name() -> None:
    assert [LeakLevel.named(str(level)) for level in LeakLevel] == list(LeakLevel)
    with pytest.raises(InputError, match="'some' is no leak level; levels: none, slide"):
        LeakLevel.named("some")

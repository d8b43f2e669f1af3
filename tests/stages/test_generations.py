from hubmap_ml.stages.generations import generation_in, generation_tags, in_words


def test_the_latest_generation_is_carried_on_with_all_names() -> None:
    first = {"hubmap.generation": "1", "hubmap.labels": "round1"}
    second = {"hubmap.generation": "2", "hubmap.labels": "round2"}
    tags = generation_tags([second, {}, first, second])
    assert tags == {"hubmap.generation": "2", "hubmap.labels": "round1,round2"}
    assert generation_tags([tags, first]) == tags
    assert (generation_in(tags), generation_in({})) == (2, 0)


def test_what_learnt_from_none_carries_nothing() -> None:
    assert generation_tags([]) == generation_tags([{}, {"hubmap.member": "a"}]) == {}
    assert in_words({}) == ""
    assert (
        in_words({"hubmap.generation": "1", "hubmap.labels": "round1"})
        == "pseudo-labels round1 of generation 1"
    )

from hubmap_ml.spec import StageInputs, digest_of


def test_the_order_of_keys_is_no_part_of_a_digest() -> None:
    assert digest_of({"a": 1, "b": {"c": 2, "d": 3}}) == digest_of({"b": {"d": 3, "c": 2}, "a": 1})


def test_every_part_of_the_inputs_changes_the_key() -> None:
    first = StageInputs("tune", {"trials": 30}, ("x",), "d")
    others = [
        StageInputs("predict", {"trials": 30}, ("x",), "d"),
        StageInputs("tune", {"trials": 31}, ("x",), "d"),
        StageInputs("tune", {"trials": 30}, ("y",), "d"),
        StageInputs("tune", {"trials": 30}, ("x",), "e"),
        StageInputs("tune", {"trials": (30,)}, ("x",), "d"),
        StageInputs("tune", {"trials": [30]}, ("x",), "d"),
    ]
    assert len({item.key for item in [first, *others]}) == 7
    assert first.key == StageInputs("tune", {"trials": 30}, ("x",), "d").key

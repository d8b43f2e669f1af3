import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubmap_ml.spec import InputError, decode_config, encode_config

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text().filter(lambda key: key != "__tuple__"), inner)
    ),
    max_leaves=20,
)


def same(a: object, b: object) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@given(values)
def test_a_configuration_survives_json_with_its_types(value: object) -> None:
    assert same(decode_config(json.loads(json.dumps(encode_config(value)))), value)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"model": {"fn": print}}, "config.model.fn"),
        ({"lr": math.nan}, "config.lr"),
        ({"a": [1, {2: 3}]}, "config.a[1]"),
        ({"__tuple__": [1]}, "__tuple__"),
    ],
)
def test_what_is_no_plain_data_is_named_by_its_place(value: object, place: str) -> None:
    with pytest.raises(InputError) as caught:
        encode_config(value)
    assert place in str(caught.value)

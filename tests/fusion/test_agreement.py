import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.fusion import FusionOptions, agreement, fuse
from hubmap_ml.instances import PredictionSet
from tests.random_scenes import predictions


@given(st.integers(0, 10_000), st.integers(1, 4), st.sampled_from(["wbf", "nmw", "nms"]), st.floats(0.2, 0.8))
@settings(deadline=None, max_examples=40)
def test_members_are_counted_once_however_many_instances_they_give(
    seed: int, n: int, method: str, iou: float
) -> None:
    members = [predictions([seed, k], objects_seed=seed % 7) for k in range(n)]
    twice = members[0].take(np.sort(np.repeat(np.arange(len(members[0])), 2)))
    members = [twice, *members[1:]]
    fused = fuse(members, FusionOptions(method=method, iou_threshold=iou, skip_score=0.0))  # type: ignore[arg-type]
    kept = fused.take(np.flatnonzero(np.arange(len(fused)) % 3 != 1))
    stacked = PredictionSet.stack_sources(members, [str(k) for k in range(n)])
    assert kept.cluster_offsets is not None
    assert kept.member_rows is not None
    rows = np.split(kept.member_rows, kept.cluster_offsets[1:-1])[: len(kept)]
    assert agreement(kept, members).tolist() == [len(set(stacked.source[some].tolist())) for some in rows]


def test_a_set_that_was_not_fused_has_no_agreement() -> None:
    found = predictions(1)
    with pytest.raises(ValueError, match="what it is made of"):
        agreement(found, [found])

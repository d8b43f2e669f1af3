"""The rules for a cluster's mask, beside the same rules written for full-size masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.fusion import FusionOptions, MaskFusion, fuse
from hubmap_ml.instances import BitMasks, Instances, Masks, PredictionSet
from hubmap_ml.spec import InputError
from tests.random_scenes import CATEGORIES, images, predictions

HEIGHT, WIDTH = 150, 131
COUNTING = ["votes", "union", "intersection"]


def members_of(seed, bits, n_members=4):
    table = images(2, height=HEIGHT, width=WIDTH)
    return [
        predictions([seed, k], table=table, objects_seed=seed % 7, count=12, n_objects=3, bits=bits)
        for k in range(n_members)
    ]


def dense_members(members, fused, k):
    """Full-size probabilities of the members of cluster ``k``, and their rows in the stack."""
    stacked = PredictionSet.stack_sources(members, [f"member_{j}" for j in range(len(members))])
    rows = fused.member_rows[fused.cluster_offsets[k] : fused.cluster_offsets[k + 1]]
    soft = [
        one.bits.to_dense(0, HEIGHT, WIDTH).astype(float)
        if one.all_bits
        else one.soft.paste(0, HEIGHT, WIDTH)
        for one in (stacked.masks.take([row]) for row in rows)
    ]
    return np.array(soft), stacked, rows


def inside(box):
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    return (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])


@given(
    seed=st.integers(0, 2**31),
    bits=st.sampled_from([0.0, 0.5, 1.0]),
    rule=st.sampled_from(COUNTING),
    share=st.sampled_from([0.2, 0.3, 0.5, 0.75, 1.0]),
    clip=st.booleans(),
    method=st.sampled_from(["wbf", "nmw"]),
)
@settings(max_examples=60, deadline=None)
def test_counting_rules_are_those_of_full_size_masks(seed, bits, rule, share, clip, method):
    members = members_of(seed, bits)
    how = MaskFusion(rule, vote_share=share, clip=clip)
    fused = fuse(members, FusionOptions(method=method, iou_threshold=0.4, masks=how))
    assert fused.masks.all_bits
    for k in range(len(fused)):
        soft, _, rows = dense_members(members, fused, k)
        count = (soft >= 0.5).sum(axis=0)
        needed = {"votes": max(1, int(share * len(rows))), "union": 1, "intersection": len(rows)}[rule]
        expected = count >= needed
        if clip:
            expected &= inside(fused.boxes[k])
        assert np.array_equal(fused.masks.bits.to_dense(k, HEIGHT, WIDTH), expected)


def test_voted_masks_have_the_words_that_the_same_pixels_have_anywhere():
    members = members_of(3, 0.0)
    fused = fuse(
        members, FusionOptions(iou_threshold=0.4, masks=MaskFusion("votes", vote_share=0.4, clip=True))
    )
    bits = fused.masks.bits
    again = BitMasks.from_dense([bits.to_dense(k, HEIGHT, WIDTH) for k in range(len(bits))])
    assert np.array_equal(bits.words, again.words)
    assert np.array_equal(bits.windows, again.windows)


@given(seed=st.integers(0, 2**31), bits=st.sampled_from([0.0, 0.5]), clip=st.booleans())
@settings(max_examples=20, deadline=None)
def test_the_best_member_is_the_one_with_the_highest_confidence(seed, bits, clip):
    members, weights = members_of(seed, bits), [1.0, 3.0, 0.5, 2.0]
    how = MaskFusion("best", clip=clip)
    fused = fuse(members, FusionOptions(iou_threshold=0.4, masks=how), weights=weights)
    for k in range(len(fused)):
        soft, stacked, rows = dense_members(members, fused, k)
        best = np.argmax(stacked.scores[rows].astype(float) * np.array(weights)[stacked.source[rows]])
        expected = soft[best] * (inside(fused.boxes[k]) if clip else 1)
        one = fused.masks.take([k])
        found = one.bits.to_dense(0, HEIGHT, WIDTH) if one.all_bits else one.soft.paste(0, HEIGHT, WIDTH)
        assert np.abs(found - expected).max() <= (0.5 / 255 + 1e-4 if clip else 0)
        assert one.all_bits == bool(stacked.masks.kind[rows[best]])


@given(seed=st.integers(0, 2**31), method=st.sampled_from(["wbf", "nmw", "nms"]))
@settings(max_examples=15, deadline=None)
def test_a_clipped_mean_is_the_mean_inside_the_fused_box(seed, method):
    members = members_of(seed, 0.3)
    whole, cut = (
        fuse(members, FusionOptions(method=method, iou_threshold=0.4, masks=MaskFusion("mean", clip=clip)))
        for clip in (False, True)
    )
    assert np.array_equal(whole.boxes, cut.boxes)
    for k in range(len(cut)):
        a, b = (one.masks.soft.paste(k, HEIGHT, WIDTH) for one in (whole, cut))
        assert np.abs(a * inside(cut.boxes[k]) - b).max() < 1e-4


def test_the_rule_of_the_reference_is_a_union_below_ten_members():
    """The pseudo-label code of HuBMAP 2023's first place: share .2, count >= max(1, int(share * n)), cut at the box."""
    at = Instances.build([[10, 10, 50, 50]], [0.9], masks=None, height=HEIGHT, width=WIDTH)
    members = []
    for k in range(10):
        dense = np.zeros((HEIGHT, WIDTH), bool)
        dense[5 + k : 40, 5:60] = True
        masks = Masks.from_bits(BitMasks.from_dense([dense]))
        members.append(
            PredictionSet.from_instances(
                images(1, height=HEIGHT, width=WIDTH), CATEGORIES, [at.replace(masks=masks)]
            )
        )
    how = MaskFusion("votes", vote_share=0.2, clip=True)
    for n, first_row in ((9, 10), (10, 10)):
        fused = fuse(members[:n], FusionOptions(masks=how))
        rows = np.flatnonzero(fused.masks.bits.to_dense(0, HEIGHT, WIDTH).any(axis=1))
        assert rows[0] == first_row
        assert rows[-1] == 39
    uncut = [fuse(members[:n], FusionOptions(masks=MaskFusion("votes", vote_share=0.2))) for n in (9, 10)]
    tops = [np.flatnonzero(one.masks.bits.to_dense(0, HEIGHT, WIDTH).any(axis=1))[0] for one in uncut]
    assert tops == [5, 6]  # one of nine is enough, of ten it takes two


def test_empty_and_missing_masks():
    members = members_of(1, 0.0)
    boxes_only = [member.replace(masks=None) for member in members]
    assert fuse(boxes_only, FusionOptions(masks=MaskFusion("votes"))).masks is None
    nothing = Instances.build(
        [[0, 0, 20, 20]], [0.9], masks=Masks.from_bits(BitMasks.empty(1)), height=9, width=40
    )
    member = PredictionSet.from_instances(images(1, height=9, width=40), CATEGORIES, [nothing])
    for rule in ("mean", "votes", "best", "union", "intersection"):
        for clip in (False, True):
            fused = fuse([member, member], FusionOptions(masks=MaskFusion(rule, clip=clip)))
            assert fused.masks.binarize(0.5, 9, 40).areas().tolist() == [0]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"rule": "median"}, "unknown mask rule 'median'"),
        ({"vote_share": 0.0}, "greater than 0"),
        ({"vote_share": 1.5}, "at most 1"),
    ],
)
def test_bad_rules_are_refused(broken, words):
    with pytest.raises(InputError, match=words):
        MaskFusion(**broken)

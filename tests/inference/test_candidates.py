"""Candidates hold what mmdet's own test procedure starts from, and views lead there and back."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms
from numpy.typing import NDArray

from hubmap_ml.data import ArrayImage
from hubmap_ml.inference import VIEWS, CandidateStats, Network, predict_candidates
from hubmap_ml.inference.views import boxes_in_view, crops_in_view
from hubmap_ml.instances import Category, Images, Instances
from hubmap_ml.models import TestPipeline, build_detector
from hubmap_ml.spec import InputError
from tests.detectors import cascade, htc, mask_rcnn, mask_scoring, point_rend

MEMBERS: dict[str, Callable[[], dict[str, Any]]] = {
    "mask_rcnn": mask_rcnn,
    "mask_rcnn_agnostic": lambda: mask_rcnn(class_agnostic=True),
    "cascade": cascade,
    "htc": htc,
    "htc_semantic": lambda: htc(semantic=True),
    "point_rend": point_rend,
}


def network(config: dict[str, Any], seed: int, n_categories: int = 1) -> Network:
    """A network with random weights, strong enough that scores, boxes and masks differ from each other."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = build_detector(config, n_categories)
    model.init_weights()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "fc_cls" in name or "conv_logits" in name or "rpn_cls" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
            elif (
                "fc_reg" in name or "rpn_reg" in name
            ):  # gently: regions clipped at the border have equal scores
                parameter.add_(torch.randn_like(parameter) * 0.05)
    categories = tuple(Category(i, f"class {i}") for i in range(n_categories))
    return Network(model.eval(), config, categories, "", "mmdet", torch.device("cpu"))


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def row(height: int, width: int, name: str = "a") -> Images:
    return Images.build(ids=[name], heights=height, widths=width)


def candidates(net: Network, image: NDArray[np.uint8], **options: Any) -> tuple[Instances, CandidateStats]:
    size = image.shape[:2]
    [(_, found, stats)] = predict_candidates(net, [(row(*size), ArrayImage(image))], **options)
    return found, stats


def everything(net: Network, image: NDArray[np.uint8], views: Sequence[str] = ("none",)) -> Instances:
    """All proposals: floor, duplicates and cap lifted."""
    return candidates(net, image, views=views, score=0.0, dedupe_iou=None, max_per_image=None)[0]


def simple_test(
    net: Network, image: NDArray[np.uint8]
) -> tuple[list[NDArray[Any]], list[list[NDArray[Any]]]]:
    """mmdet's own answer: boxes with scores and masks, for each class."""
    tensor, meta = TestPipeline(net.config["test_pipeline"])(image)
    with torch.no_grad():
        return net.model.simple_test(torch.from_numpy(tensor)[None], [meta], rescale=True)[0]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", list(MEMBERS))
@pytest.mark.parametrize("n_categories", [1, 3])
def test_the_members_own_test_configuration_on_its_candidates_is_mmdets_simple_test(
    name: str, seed: int, n_categories: int
) -> None:
    net = network(MEMBERS[name](), seed, n_categories)
    image = picture(45, 61, seed)
    expected_boxes, expected_masks = simple_test(net, image)
    assert sum(map(len, expected_boxes)) > 5

    found = everything(net, image)
    settings = net.config["model"]["test_cfg"]["rcnn"]
    above = found.take(found.scores > settings["score_thr"])
    _, keep = batched_nms(
        torch.from_numpy(above.boxes),
        torch.from_numpy(above.scores),
        torch.from_numpy(above.labels).long(),
        dict(settings["nms"]),
    )
    kept = above.take(keep.numpy()[: settings["max_per_img"]])
    assert kept.masks is not None
    bits = kept.masks.binarize(settings["mask_thr_binary"], 45, 61)
    for label in range(n_categories):
        rows = np.flatnonzero(kept.labels == label)
        ours, theirs = np.column_stack([kept.boxes[rows], kept.scores[rows]]), expected_boxes[label]
        np.testing.assert_array_equal(ours, theirs)
        for place, i in enumerate(rows):
            near = np.abs(kept.masks.soft.paste(int(i), 45, 61) - settings["mask_thr_binary"]) < 1 / 255
            different = bits.to_dense(int(i), 45, 61) != expected_masks[label][place]
            assert not (different & ~near).any()


def test_a_mask_scoring_heads_word_is_multiplied_into_the_score() -> None:
    net = network(mask_scoring(), 1, n_categories=2)
    with torch.no_grad():
        net.model.roi_head.mask_iou_head.fc_mask_iou.bias.copy_(torch.tensor([0.6, 0.8]))
    image = picture(45, 61)
    expected_boxes, (_, expected_scores) = simple_test(net, image)
    found = everything(net, image)
    assert (np.diff(found.scores) <= 0).all()
    told = 0
    for label in range(2):
        for box, score in zip(expected_boxes[label], expected_scores[label], strict=True):
            same = (found.labels == label) & (found.boxes == box[:4]).all(1)
            assert np.isclose(found.scores[same], score, rtol=1e-5).any()
            assert score < box[4]
            told += 1
    assert told > 5


@pytest.mark.parametrize("name", ["mask_rcnn", "htc"])
def test_a_flipped_image_seen_through_the_flip_gives_the_same_candidates(name: str) -> None:
    net = network(MEMBERS[name](), 3)
    image = picture(45, 61)
    for view, mirrored in (
        ("hflip", image[:, ::-1]),
        ("vflip", image[::-1]),
        ("diagonal", image[::-1, ::-1]),
    ):
        straight = everything(net, image)
        back = everything(net, np.ascontiguousarray(mirrored), views=(view,))
        columns, rows = view != "vflip", view != "hflip"
        # What the network saw is the same; its answer is moved into the mirrored picture.
        np.testing.assert_array_equal(straight.scores, back.scores)
        boxes = straight.boxes.copy()
        if columns:
            boxes[:, [0, 2]] = 61 - boxes[:, [2, 0]]
        if rows:
            boxes[:, [1, 3]] = 45 - boxes[:, [3, 1]]
        np.testing.assert_allclose(back.boxes, boxes, atol=1e-4)
        assert straight.masks is not None
        assert back.masks is not None
        crop = straight.masks.soft.crop(0)[:: -1 if rows else 1, :: -1 if columns else 1]
        np.testing.assert_array_equal(back.masks.soft.crop(0), crop)


def test_several_views_are_those_views_one_after_the_other_whatever_the_batch() -> None:
    net = network(mask_rcnn(), 4)
    image = picture(64, 64)
    apart = [candidates(net, image, views=(view,))[0] for view in ("none", "hflip", "vflip")]
    for batch in (1, 2, 3):
        together, stats = candidates(net, image, views=("none", "hflip", "vflip"), batch=batch)
        assert stats.n_kept == len(together) == sum(map(len, apart))
        for source, one in enumerate(apart):
            part = together.take(together.source == source)
            np.testing.assert_allclose(part.scores, one.scores, atol=1e-5)
            np.testing.assert_allclose(part.boxes, one.boxes, atol=1e-3)


def test_scales_replace_the_pipelines_own_and_come_back_in_image_pixels() -> None:
    net = network(mask_rcnn(), 5)
    image = picture(40, 60)
    own = candidates(net, image, views=("none",))[0]
    same = candidates(net, image, views=("none",), scales=[64])[0]
    np.testing.assert_array_equal(own.boxes, same.boxes)
    larger = candidates(net, image, views=("none", "hflip"), scales=[64, 96])[0]
    assert set(larger.source.tolist()) == {0, 1, 2, 3}
    assert larger.boxes[:, [0, 2]].max() <= 60
    assert larger.boxes[:, [1, 3]].max() <= 40


def test_each_proposal_is_counted_once() -> None:
    net = network(htc(), 6, n_categories=2)
    image = picture(64, 64)
    raw = everything(net, image)
    found, stats = candidates(net, image, views=("none",), score=0.001, max_per_image=7)
    assert stats.n_raw == int((raw.scores >= 0.001).sum())
    assert stats.n_raw == stats.n_duplicates + stats.n_over_cap + stats.n_kept
    assert len(found) == stats.n_kept == 7
    assert stats.cap_bit
    assert not candidates(net, image, views=("none",))[1].cap_bit
    assert np.all(np.diff(found.scores) <= 0)


def test_duplicates_go_by_label_and_the_higher_score_stays() -> None:
    net = network(mask_rcnn(class_agnostic=True), 7, n_categories=2)
    image = picture(64, 64)
    raw = everything(net, image)
    found, stats = candidates(net, image, views=("none",), score=0.0, dedupe_iou=0.5, max_per_image=None)
    assert stats.n_duplicates > 0
    for label in (0, 1):
        assert found.scores[found.labels == label].max() == raw.scores[raw.labels == label].max()


def test_an_image_without_proposals_has_no_candidates() -> None:
    config = mask_rcnn()
    config["model"]["test_cfg"]["rpn"] = {**config["model"]["test_cfg"]["rpn"], "min_bbox_size": 10_000}
    for changed in (config, {**htc(), "model": {**htc()["model"], "test_cfg": config["model"]["test_cfg"]}}):
        found, stats = candidates(network(changed, 0), picture(64, 64))
        assert len(found) == 0
        assert found.masks is not None
        assert (stats.n_raw, stats.cap_bit) == (0, False)


def test_images_come_one_by_one_as_they_are_asked_for() -> None:
    net = network(mask_rcnn(), 8)
    read: list[str] = []

    class Watched(ArrayImage):
        def read(self, window: Any = None) -> NDArray[np.uint8]:
            read.append("x")
            return super().read(window)

    rows = ((row(64, 64, f"tile {i}"), Watched(picture(64, 64, i))) for i in range(3))
    stream = predict_candidates(net, rows, views=("none",))
    assert read == []
    first, _, _ = next(stream)
    assert (first.ids[0], len(read)) == ("tile 0", 1)
    assert len(list(stream)) == 2


def test_a_network_that_diverged_is_refused_rather_than_silent() -> None:
    net = network(mask_rcnn(), 0)
    torch.nn.init.constant_(net.model.roi_head.bbox_head.fc_cls.weight, float("nan"))
    with pytest.raises(InputError, match="scores are not numbers"):
        candidates(net, picture(64, 64))
    net = network(mask_rcnn(), 0)
    torch.nn.init.constant_(net.model.roi_head.mask_head.conv_logits.weight, float("nan"))
    with pytest.raises(InputError, match="masks are not numbers"):
        candidates(net, picture(64, 64))


@pytest.mark.parametrize("views", [(), ("none", "none"), ("sideways",)])
def test_unknown_or_repeated_views_are_refused(views: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="view"):
        candidates(network(mask_rcnn(), 0), picture(64, 64), views=views)


def test_an_image_of_another_size_than_its_row_is_refused(tmp_path: Path) -> None:
    stream = predict_candidates(network(mask_rcnn(), 0), [(row(64, 60), ArrayImage(picture(64, 64)))])
    with pytest.raises(InputError, match="64 x 64 pixels and its row says 60 x 64"):
        next(stream)


@pytest.mark.parametrize("name", ["mask_rcnn", "cascade", "htc", "htc_semantic"])
def test_views_merged_in_the_network_are_mmdets_aug_test(name: str) -> None:
    """The member's own test settings on the merged candidates give mmdet's boxes, scores and masks."""
    net = network(MEMBERS[name](), 2, n_categories=2)
    image = picture(64, 64, 5)
    pipeline = TestPipeline(net.config["test_pipeline"])
    tensor, meta = pipeline(image)
    tensors, metas = [], []
    for direction, dims in (("", ()), ("horizontal", (2,)), ("vertical", (1,)), ("diagonal", (1, 2))):
        tensors.append(torch.from_numpy(np.flip(tensor, dims).copy())[None])
        metas.append([{**meta, "flip": bool(direction), "flip_direction": direction or None}])
    with torch.no_grad():
        [(expected_boxes, expected_masks)] = net.model.aug_test(tensors, metas, rescale=True)
    assert sum(map(len, expected_boxes)) > 5

    views = ("none", "hflip", "vflip", "diagonal")
    options = {"score": 0.0, "dedupe_iou": None, "max_per_image": None, "in_network": True}
    found, _ = candidates(net, image, views=views, **options)
    assert set(found.source.tolist()) == {0}
    settings = net.config["model"]["test_cfg"]["rcnn"]
    above = found.take(found.scores > settings["score_thr"])
    _, keep = batched_nms(
        torch.from_numpy(above.boxes), torch.from_numpy(above.scores), torch.from_numpy(above.labels).long(),
        dict(settings["nms"]),
    )  # fmt: skip
    kept = above.take(keep.numpy()[: settings["max_per_img"]])
    assert kept.masks is not None
    bits = kept.masks.binarize(settings["mask_thr_binary"], 64, 64)
    for label in range(2):
        rows = np.flatnonzero(kept.labels == label)
        ours, theirs = np.column_stack([kept.boxes[rows], kept.scores[rows]]), expected_boxes[label]
        assert len(ours) == len(theirs)
        np.testing.assert_allclose(ours[:, 4], theirs[:, 4], atol=1e-5)
        np.testing.assert_allclose(ours[:, :4], theirs[:, :4], atol=1e-3)
        for place, i in enumerate(rows):
            near = np.abs(kept.masks.soft.paste(int(i), 64, 64) - settings["mask_thr_binary"]) < 2 / 255
            different = bits.to_dense(int(i), 64, 64) != expected_masks[label][place]
            assert not (different & ~near).any()


def test_one_view_merged_in_the_network_is_that_view() -> None:
    net = network(htc(), 4)
    image = picture(45, 61)
    for view in ("none", "rot90"):
        options = {"views": (view,), "score": 0.01, "dedupe_iou": None, "max_per_image": None}
        plain, merged = (candidates(net, image, in_network=way, **options)[0] for way in (False, True))
        np.testing.assert_allclose(np.sort(plain.scores), np.sort(merged.scores), atol=1e-5)


def test_turned_views_and_scales_of_a_longish_image_merge_in_the_network() -> None:
    net = network(mask_rcnn(), 4)
    found, stats = candidates(net, picture(45, 61), views=tuple(VIEWS), scales=[64, 96], in_network=True)
    assert stats.n_kept == len(found) > 0
    assert found.boxes[:, [0, 2]].max() <= 61
    assert found.boxes[:, [1, 3]].max() <= 45
    nothing = mask_rcnn()
    nothing["model"]["test_cfg"]["rpn"] = {**nothing["model"]["test_cfg"]["rpn"], "min_bbox_size": 10_000}
    assert len(candidates(network(nothing, 0), picture(64, 64), in_network=True)[0]) == 0


def test_a_turned_image_seen_through_the_turn_gives_the_same_candidates() -> None:
    net = network(mask_rcnn(), 3)
    image = picture(45, 61)
    straight = everything(net, image)
    # The turned picture's view undoes the turn, so the network sees the same pixels.
    for turned, view, opposite in (
        (np.rot90(image, 3), "rot90", "rot270"),
        (np.rot90(image), "rot270", "rot90"),
    ):
        back = everything(net, np.ascontiguousarray(turned), views=(view,))
        np.testing.assert_array_equal(straight.scores, back.scores)
        expected = boxes_in_view(straight.boxes, opposite, height=45, width=61)
        np.testing.assert_allclose(back.boxes, expected, atol=1e-4)
        assert straight.masks is not None
        assert back.masks is not None
        crop = crops_in_view(straight.masks.soft.crop(0)[None], opposite)[0]
        np.testing.assert_array_equal(back.masks.soft.crop(0), crop)

"""Logs of mmdet are read as data: the reference's own give the figures that are known of them."""

from pathlib import Path

import pytest

from hubmap_ml.spec import InputError
from hubmap_ml.training.mmdet_log import read_mmdet_log
from tests.reference_logs import CBNET_STAGE1, R50_STAGE2, needs_logs, train, val, written


@needs_logs
@pytest.mark.parametrize(
    ("path", "best", "best_50", "last", "iterations", "iteration_s", "memory", "wall_s"),
    [
        pytest.param(
            CBNET_STAGE1,
            (3, 0.2283, 0.5420, 0.1504),
            (3, 0.5420),
            (0.1990, 0.4909),
            (114, 10, 1140),
            1.80,
            41054,
            2320,
            id="cbnet, stage 1",
        ),
        pytest.param(
            R50_STAGE2,
            (21, 0.4077, 0.7491, 0.3748),
            (22, 0.7511),
            (0.4066, 0.7491),
            (56, 23, 1288),
            2.08,
            20485,
            3375,
            id="detectors_r50, stage 2",
        ),
    ],
)
def test_the_references_logs_say_what_is_known_of_them(
    path: Path, best, best_50, last, iterations, iteration_s, memory, wall_s
) -> None:
    log = read_mmdet_log(path)
    found = log.best("segm_mAP")
    assert (found.epoch, *(found.values[f"segm_mAP{key}"] for key in ("", "_50", "_75"))) == best
    found = log.best("segm_mAP_50")
    assert (found.epoch, found.values["segm_mAP_50"]) == best_50
    final = log.scores[-1].values
    assert (final["segm_mAP"], final["segm_mAP_50"]) == last
    assert (log.epoch_length, log.epochs, log.total_iterations) == iterations
    assert log.iteration_s == pytest.approx(iteration_s, abs=0.005)
    assert log.peak_memory_mib == memory
    # Known to the second from the whole logs; these begin with the first iterations, up to a minute and a half later.
    assert 0 <= wall_s - log.wall_s < 90


def test_what_a_line_says_is_read_and_the_rest_left_out(tmp_path: Path) -> None:
    log = read_mmdet_log(written(tmp_path, train(1, 20), train(1, 30, loss="nan", second=40), val(1, 0.5)))
    assert log.iterations[0].values == {"lr": 1.9e-3, "time": 2.0, "loss": 1.0}
    assert log.iterations[1].values == {"lr": 1.9e-3, "time": 2.0}
    assert log.scores[0].values == {"segm_mAP": 0.5}
    assert [log.step(line) for line in log.iterations] == [20, 30]
    assert log.total_iterations == 30
    assert log.wall_s == pytest.approx(2.0 * 20 + 41.551)


def test_an_epoch_that_was_begun_again_counts_as_it_was_ended(tmp_path: Path) -> None:
    path = written(tmp_path, train(1, 20), val(1, 0.3), train(2, 20), train(2, 20, loss="3.0"), val(2, 0.2))
    log = read_mmdet_log(path)
    assert [(line.epoch, line.values["loss"]) for line in log.iterations] == [(1, 1.0), (2, 3.0)]
    assert log.total_iterations == 60


def test_an_unfinished_epoch_counts_what_was_logged(tmp_path: Path) -> None:
    assert read_mmdet_log(written(tmp_path, train(1, 20), val(1, 0.3), train(2, 10))).total_iterations == 40


def test_the_first_of_equal_scores_is_the_best(tmp_path: Path) -> None:
    log = read_mmdet_log(written(tmp_path, train(1, 20), val(1, 0.3), val(2, 0.4), val(3, 0.4)))
    assert log.best("segm_mAP").epoch == 2
    with pytest.raises(InputError, match="no score 'bbox_mAP'; there is segm_mAP"):
        log.best("bbox_mAP")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("hello",), "no line 'Epoch"),
        ((val(1, 0.5),), "no line 'Epoch"),
        ((train(1, 20), train(2, 20).replace("/30]", "/31]")), "30 and 31 iterations"),
    ],
)
def test_what_is_no_log_of_one_training_is_one_line(
    tmp_path: Path, lines: tuple[str, ...], said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_mmdet_log(written(tmp_path, *lines))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot read the log"):
        read_mmdet_log(tmp_path / "none.log")

"""The arithmetic of a plan: measured figures times iterations, epochs, images and networks."""

import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.spec.reference_costs import ReferenceCost
from hubmap_ml.stages.plan_figures import Measured, Row, total

MEASURED = Measured(
    iterations=3,
    iteration_s=2.0,
    valid_image_s=0.5,
    predict_image_s=4.0,
    process_mib=900.0,
    device_mib=math.nan,
    weights_bytes=10**9,
    state_bytes=2 * 10**9,
)
ROW = Row(
    member="a",
    stage="finetune",
    trainings=5,
    epochs=10,
    epoch_length=36,
    valid_images=40,
    predicted_images=450,
    kept=2,
    measured=MEASURED,
)


def test_hours_are_iterations_and_validation_of_all_epochs_and_folds_and_the_predictions() -> None:
    assert ROW.training_s == 10 * (36 * 2.0 + 40 * 0.5)
    assert ROW.predicting_s == 450 * 4.0
    assert ROW.seconds == 5 * 920.0 + 1800.0
    alone = dataclasses.replace(ROW, predicted_images=0, valid_images=0)
    assert alone.seconds == 5 * 10 * 36 * 2.0


def test_disk_is_what_stays_and_what_the_largest_training_needs_meanwhile() -> None:
    assert ROW.disk_bytes == 5 * 2 * 10**9
    assert ROW.working_bytes == 4 * (10**9 + 2 * 10**9) + 10**9
    small = dataclasses.replace(
        ROW, measured=dataclasses.replace(MEASURED, weights_bytes=10**6, state_bytes=10**6), trainings=1
    )
    sums = total([ROW, small])
    assert sums.disk_gb == pytest.approx(10 + 0.002 + 13)


def test_a_stage_that_another_trains_costs_nothing_again() -> None:
    shared = dataclasses.replace(ROW, stage="pretrain", trainings=0, predicted_images=0, note="the same")
    assert (shared.seconds, shared.disk_bytes, shared.working_bytes) == (0, 0, 0)
    assert total([ROW, shared]) == total([ROW])


def test_a_refit_that_shares_its_measurement_still_predicts() -> None:
    assert dataclasses.replace(ROW, trainings=0).seconds == 1800.0


def test_memory_is_the_gpus_where_there_is_one_and_the_most_of_all() -> None:
    on_gpu = dataclasses.replace(MEASURED, device_mib=20_000.0)
    assert (MEASURED.memory_mib, on_gpu.memory_mib) == (900.0, 20_000.0)
    assert total([ROW, dataclasses.replace(ROW, measured=on_gpu)]).memory_mib == 20_000.0


def test_what_could_not_be_measured_is_counted_and_in_no_sum() -> None:
    failed = dataclasses.replace(ROW, measured=None, note="out of memory")
    assert math.isnan(failed.seconds)
    sums = total([ROW, failed])
    assert sums.missing == 1
    assert dataclasses.replace(sums, missing=0) == total([ROW])
    assert json.loads(json.dumps(failed.to_data()))["extrapolated"]["hours"] is None
    assert total([]) == total([failed]).__class__(0.0, 0.0, 0.0, 0)


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 50), st.integers(1, 500), st.integers(0, 100))
def test_a_stage_is_the_sum_of_its_trainings(folds: int, epochs: int, length: int, valid: int) -> None:
    one = dataclasses.replace(
        ROW, trainings=1, epochs=epochs, epoch_length=length, valid_images=valid, predicted_images=0
    )
    many = dataclasses.replace(one, trainings=folds)
    assert total([many]).hours == pytest.approx(total([one] * folds).hours)
    assert many.disk_bytes == folds * one.disk_bytes
    assert total([many]).hours >= total([one]).hours


def test_a_row_as_data_says_what_was_measured_and_what_extrapolated() -> None:
    known = ReferenceCost(epochs=23, epoch_length=56, iteration_s=2.08, memory_mib=20485, wall_s=3375)
    told = json.loads(json.dumps(dataclasses.replace(ROW, reference=known).to_data()))
    assert told["measured"]["iteration_s"] == 2.0
    assert told["measured"]["device_mib"] is None
    assert told["measured"]["memory_mib"] == 900.0
    assert told["extrapolated"]["hours_each"] == pytest.approx(920 / 3600)
    assert told["reference"]["wall_s"] == 3375

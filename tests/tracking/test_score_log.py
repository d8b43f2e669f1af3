"""The score log in the store: a run a submission, completed and never doubled."""

import pytest
from mlflow import MlflowClient

from hubmap_ml.spec import InputError, LoggedSubmission
from hubmap_ml.tracking import log_submission, logged_submissions, score_log
from hubmap_ml.tracking.sweeping import sweep

DIGEST = "c" * 64


def test_a_submission_is_completed_by_its_digest_and_never_doubled(store: MlflowClient) -> None:
    first = log_submission(store, "demo", LoggedSubmission("a", digest=DIGEST, cv=0.5, cv_metric="ap60"))
    again = log_submission(
        store, "demo", LoggedSubmission("b", digest=DIGEST, public=0.4, note='said\'s "quote"')
    )
    same = log_submission(store, "demo", LoggedSubmission("b", digest=DIGEST))
    assert (first.change, again.change, same.change) == ("added", "completed", "known")
    assert first.run_id == again.run_id == same.run_id
    (kept,) = logged_submissions(store, "demo")
    assert kept.submission == LoggedSubmission(
        "b", digest=DIGEST, cv=0.5, cv_metric="ap60", public=0.4, note='said\'s "quote"'
    )
    run = store.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "score · b"
    assert run.data.metrics == {"score/cv": 0.5, "score/public": 0.4}
    assert run.data.tags["mlflow.note.content"] == 'public 0.4000; CV 0.5000 (ap60)\n\nsaid\'s "quote"'
    assert logged_submissions(store, "other") == []


def test_a_correction_must_be_said_and_its_history_stays(store: MlflowClient) -> None:
    made = log_submission(store, "demo", LoggedSubmission("a", public=0.4))
    with pytest.raises(InputError, match=r"public is 0\.4 in the log and 0\.3 now"):
        log_submission(store, "demo", LoggedSubmission("a", public=0.3))
    log_submission(store, "demo", LoggedSubmission("a", public=0.3), correct=True)
    assert [entry.submission.public for entry in logged_submissions(store, "demo")] == [0.3]
    assert [point.value for point in store.get_metric_history(made.run_id, "score/public")] == [0.4, 0.3]


def test_a_name_without_a_file_takes_the_digest_that_comes_later(store: MlflowClient) -> None:
    made = log_submission(store, "demo", LoggedSubmission("a", public=0.4))
    assert log_submission(store, "demo", LoggedSubmission("a", digest=DIGEST)).run_id == made.run_id
    other = log_submission(store, "demo", LoggedSubmission("a", digest="d" * 64))
    assert other.change == "added"
    assert [entry.submission.digest for entry in logged_submissions(store, "demo")] == [DIGEST, "d" * 64]


def test_of_two_who_log_one_submission_at_once_one_run_stays(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = score_log._create

    def while_another_does(
        client: MlflowClient, experiment: str, submission: LoggedSubmission, upstream: str
    ) -> str:
        monkeypatch.setattr(score_log, "_create", create)
        log_submission(client, experiment, LoggedSubmission("theirs", digest=DIGEST, public=0.4))
        return create(client, experiment, submission, upstream)

    monkeypatch.setattr(score_log, "_create", while_another_does)
    mine = log_submission(store, "demo", LoggedSubmission("mine", digest=DIGEST, cv=0.5))
    (kept,) = logged_submissions(store, "demo")
    assert kept.run_id == mine.run_id
    assert (kept.submission.public, kept.submission.cv) == (0.4, 0.5)


def test_sweeping_leaves_the_log_alone(store: MlflowClient) -> None:
    log_submission(store, "demo", LoggedSubmission("a", public=0.4))
    assert sweep(store) == []
    assert len(logged_submissions(store, "demo")) == 1

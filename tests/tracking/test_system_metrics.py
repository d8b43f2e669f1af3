"""The machine's state goes with a run, by the way of all metrics."""

import pytest
from mlflow import MlflowClient

from hubmap_ml.tracking import stage_run
from hubmap_ml.tracking.system_metrics import SWITCH, SystemMetrics


def test_processor_memory_disk_and_network_are_measured() -> None:
    found = SystemMetrics().sample()
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(found)
    assert 0 < found["system/system_memory_usage_percentage"] < 100
    assert any(name.startswith("system/disk") for name in found)
    assert any(name.startswith("system/network") for name in found)


def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "false")
    assert SystemMetrics().sample() == {}


def test_a_monitor_that_fails_takes_nothing_else_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor

    def broken(self: DiskMonitor) -> None:
        raise OSError("no such counter")

    monkeypatch.setattr(DiskMonitor, "collect_metrics", broken)
    found = SystemMetrics().sample()
    assert "system/cpu_utilization_percentage" in found
    assert not any(name.startswith("system/disk") for name in found)


def test_each_beat_of_a_run_leaves_a_sample(store: MlflowClient) -> None:
    with stage_run(experiment="demo", stage="tune", name="tune") as run:
        run._beat()
        run.recorder.drain()
        name = "system/cpu_utilization_percentage"
        points = store.get_metric_history(run.run_id, name)
    assert len(points) == 1
    assert points[0].step == pytest.approx(points[0].timestamp / 1000, abs=2)

"""What the machine does while a run is going on, by MLflow's own monitors: processor, memory, disk, network, GPUs.

MLflow's thread for them speaks to the store by itself and gives up when it does not answer; here they take the way of
all metrics, on disk first. ``MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=false`` turns them off.
"""

import logging
import os
from typing import Any

log = logging.getLogger(__name__)

SWITCH = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
PREFIX = "system/"
"""Metrics of this prefix stand in a tab of their own on MLflow's pages."""


class SystemMetrics:
    """Samples of the machine's state; nothing is looked at before the first."""

    def __init__(self) -> None:
        self._monitors: list[Any] | None = None

    def sample(self) -> dict[str, float]:
        """Return what is measured now, by name; empty where it is turned off."""
        if os.environ.get(SWITCH, "true").lower() == "false":
            return {}
        if self._monitors is None:
            self._monitors = _monitors()
        found: dict[str, float] = {}
        for monitor in self._monitors:
            try:
                monitor.collect_metrics()
                found |= monitor.aggregate_metrics()
                monitor.clear_metrics()
            except Exception:  # a counter that the kernel does not have, a GPU that went away
                log.debug("%s gave nothing", type(monitor).__name__, exc_info=True)
        return {PREFIX + name: float(value) for name, value in found.items()}


def _monitors() -> list[Any]:
    """MLflow's monitors that work here."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    found = []
    for kind in (CPUMonitor, DiskMonitor, NetworkMonitor, GPUMonitor):
        try:
            found.append(kind())
        except Exception as error:  # no GPU, or not the package that asks it
            log.debug("no %s: %s", kind.__name__, error)
    return found

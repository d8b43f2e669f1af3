"""All of MLflow that the platform uses: runs, their identity, artifacts, the recorder, the registry."""

from hubmap_ml.spec import without_credentials
from hubmap_ml.tracking import memory
from hubmap_ml.tracking.recorder import MlflowRecorder
from hubmap_ml.tracking.registry import (
    CHAMPION,
    PROMOTED,
    Version,
    by_alias,
    by_uri,
    ensure_model,
    folder_of,
    point_alias,
    register_folder,
    versions,
)
from hubmap_ml.tracking.runs import (
    FOLD,
    MEMBER,
    FoundRun,
    StageRun,
    end_children,
    fail_waiting_run,
    find_run,
    get_run,
    resolved_spec,
    search,
    stage_run,
)
from hubmap_ml.tracking.store import (
    experiment_id,
    local_artifact,
    open_store,
    work_folder,
)
from hubmap_ml.tracking.ui import serve_ui

__all__ = [
    "CHAMPION",
    "FOLD",
    "MEMBER",
    "PROMOTED",
    "FoundRun",
    "MlflowRecorder",
    "StageRun",
    "Version",
    "by_alias",
    "by_uri",
    "end_children",
    "ensure_model",
    "experiment_id",
    "fail_waiting_run",
    "find_run",
    "folder_of",
    "get_run",
    "local_artifact",
    "memory",
    "open_store",
    "point_alias",
    "register_folder",
    "resolved_spec",
    "search",
    "serve_ui",
    "stage_run",
    "versions",
    "without_credentials",
    "work_folder",
]

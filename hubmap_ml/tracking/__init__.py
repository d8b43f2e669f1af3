"""All of MLflow that the platform uses: runs, their identity, artifacts, the recorder, the registry."""

from hubmap_ml.spec import without_credentials
from hubmap_ml.tracking import memory
from hubmap_ml.tracking.children import child_rows
from hubmap_ml.tracking.fetching import local_copy
from hubmap_ml.tracking.lineage import (
    COMMIT,
    REUSES,
    UPSTREAM,
    Lineage,
    Node,
    lineage_from,
    lineage_of,
    run_named,
)
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
from hubmap_ml.tracking.resuming import Resumable, forget, interrupted, link
from hubmap_ml.tracking.retention import Removable, removable, remove
from hubmap_ml.tracking.runs import (
    DATA_DIGEST,
    FOLD,
    MEMBER,
    REPRODUCES,
    STAGE,
    FoundRun,
    StageRun,
    end_children,
    fail_waiting_run,
    find_run,
    follow,
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
    "COMMIT",
    "DATA_DIGEST",
    "FOLD",
    "MEMBER",
    "PROMOTED",
    "REPRODUCES",
    "REUSES",
    "STAGE",
    "UPSTREAM",
    "FoundRun",
    "Lineage",
    "MlflowRecorder",
    "Node",
    "Removable",
    "Resumable",
    "StageRun",
    "Version",
    "by_alias",
    "by_uri",
    "child_rows",
    "end_children",
    "ensure_model",
    "experiment_id",
    "fail_waiting_run",
    "find_run",
    "folder_of",
    "follow",
    "forget",
    "get_run",
    "interrupted",
    "lineage_from",
    "lineage_of",
    "link",
    "local_artifact",
    "local_copy",
    "memory",
    "open_store",
    "point_alias",
    "register_folder",
    "removable",
    "remove",
    "resolved_spec",
    "run_named",
    "search",
    "serve_ui",
    "stage_run",
    "versions",
    "without_credentials",
    "work_folder",
]

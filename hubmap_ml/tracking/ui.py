"""MLflow's pages on the project's store, opened in the model-training view.

MLflow 3 opens in its GenAI view unless the address says otherwise; the address printed here does.
"""

import logging
import os
import subprocess
import sys
import webbrowser

import mlflow

from hubmap_ml.spec import without_credentials
from hubmap_ml.tracking.store import open_store

log = logging.getLogger(__name__)

VIEW = "/#/experiments?workflowType=machine_learning"


def serve_ui(port: int, *, open_browser: bool = False) -> None:
    """Serve the pages of the store on this machine until interrupted; a remote store's own pages are named instead."""
    uri = mlflow.get_tracking_uri()
    if uri.startswith(("http://", "https://")):
        pages = f"{without_credentials(uri).rstrip('/')}{VIEW}"
        log.info("the store has pages of its own: %s", pages)
        if open_browser:
            webbrowser.open(pages)
        return
    open_store()
    address = f"http://127.0.0.1:{port}{VIEW}"
    log.info("open %s   (Ctrl-C ends)", address)
    if open_browser:
        webbrowser.open(address)
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    settings = {
        "MLFLOW_BACKEND_STORE_URI": uri,  # not on the command line: that one every user of the machine can read
        # Background jobs are MLflow's GenAI side: nine processes and 2 GB that nothing here uses.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    subprocess.run(command, env=os.environ | settings, check=False)

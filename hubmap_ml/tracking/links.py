"""Links of a run's note to the runs that it came from and to those made of it, as MLflow's pages show Markdown."""

from collections.abc import Sequence
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

VIEW = "workflowType=machine_learning"
MOST = 12
"""Links to runs; of more it is said how many they are."""


def with_links(client: MlflowClient, verdict: str, run_id: str, upstream: Sequence[str], column: str) -> str:
    """Return a note: the verdict as its first line, below it the links.

    Args:
        client: of the store.
        verdict: one line.
        run_id: whose note it is.
        upstream: ids of the runs that it came from; those that are gone are left out.
        column: tag in which runs keep the ids that they came from.
    """
    lines = []
    try:
        experiment = client.get_run(run_id).info.experiment_id
        named = [_link(client, name) for name in dict.fromkeys(upstream[:MOST])]
        if told := [text for text in named if text]:
            rest = len(dict.fromkeys(upstream)) - len(named)
            lines.append(f"Made from {', '.join(told)}{f' and {rest} more' if rest > 0 else ''}.")
        wanted = quote(f"tags.`{column}` LIKE '%{run_id}%'")
        lines.append(f"[What was made of it](#/experiments/{experiment}/runs?searchFilter={wanted}&{VIEW})")
    except (MlflowException, OSError):  # the verdict is what counts
        return verdict
    return "\n\n".join([verdict, *lines])


def _link(client: MlflowClient, run_id: str) -> str:
    try:
        info = client.get_run(run_id).info
    except MlflowException:
        return ""
    name = str(info.run_name).replace("[", "(").replace("]", ")")
    return f"[{name}](#/experiments/{info.experiment_id}/runs/{run_id}?{VIEW})"

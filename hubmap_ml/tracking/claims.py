"""Two starts of the same stage do its work once: a claim on (experiment, stage key), kept as tags of the runs.

Lamport's bakery (Communications of the ACM 17(8), 1974) over the store's tags: whoever wants to work on a key says so,
draws the number after the highest one around, and works when no live run has a smaller one. Nothing but single writes
and searches is needed, so it holds on a shared store too; a run that dies is passed over by its heartbeat.
"""

import logging
import time

from mlflow import MlflowClient
from mlflow.entities import Run

from hubmap_ml.tracking.heartbeat import HEARTBEAT, Heartbeat, describe
from hubmap_ml.tracking.sweeping import is_stale, running

log = logging.getLogger(__name__)

CLAIM = "hubmap.claim"
CHOOSING = "choosing"
EXPERIMENT = "hubmap.experiment"
KEY = "hubmap.stage_key"
LOOK_EVERY_S = 1.0


def claim(client: MlflowClient, run_id: str, *, experiment: str, key: str) -> bool:
    """Take the right to work on a key, after those who came before; returns whether there was one to wait for.

    The run carries the tags of its experiment and key already, and `CLAIM` = `CHOOSING`.
    """
    numbers = [_number(run) for run in _others(client, run_id, experiment, key)]
    own = (max(numbers, default=0) + 1, run_id)
    client.set_tag(run_id, CLAIM, str(own[0]))
    told = ""
    while True:
        first = _before(own, _others(client, run_id, experiment, key))
        if first is None:
            return bool(told)
        if first.info.run_id != told:
            told = first.info.run_id
            beat = Heartbeat.from_tag(first.data.tags.get(HEARTBEAT))
            who = describe(beat) if beat else "another process"
            log.info("%s works on the same: waiting for run %s (%s)", who, told, first.info.run_name)
        time.sleep(LOOK_EVERY_S)


def _others(client: MlflowClient, run_id: str, experiment: str, key: str) -> list[Run]:
    same = f" and tags.`{EXPERIMENT}` = '{experiment}' and tags.`{KEY}` = '{key}'"
    found = running(client, same)
    return [
        run for run in found if run.info.run_id != run_id and CLAIM in run.data.tags and not is_stale(run)
    ]


def _before(own: tuple[int, str], others: list[Run]) -> Run | None:
    for run in others:
        if run.data.tags[CLAIM] == CHOOSING or (_number(run), run.info.run_id) < own:
            return run
    return None


def _number(run: Run) -> int:
    text = run.data.tags.get(CLAIM, "")
    return int(text) if text.isdigit() else 0

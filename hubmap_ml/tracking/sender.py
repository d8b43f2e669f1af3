"""The thread that brings a run's spool to the store while the stage works, and says that the run is alive.

The work never waits for it: points go at least a second apart, a store that does not answer is asked again after a
pause that grows, and what is left at the end waits on disk for the next start.
"""

import logging
import threading
import time
from collections.abc import Callable

from mlflow import MlflowClient

from hubmap_ml.spec import without_credentials
from hubmap_ml.tracking import delivery
from hubmap_ml.tracking.spool import Spool

log = logging.getLogger(__name__)

APART_S = 1.0
LONGEST_PAUSE_S = 30.0


class Sender:
    """Sends a spool's content in the background.

    Args:
        client: of the store.
        run_id: the run that the spool belongs to.
        spool: held by this process.
        beat: called every ``beat_every_s`` seconds; says that the run is alive.
        beat_every_s: seconds between two beats.
    """

    def __init__(
        self,
        client: MlflowClient,
        run_id: str,
        spool: Spool,
        *,
        beat: Callable[[], None] | None = None,
        beat_every_s: float = 20.0,
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._spool = spool
        self._beat = beat
        self._beat_every_s = beat_every_s
        self._next_beat = time.monotonic() + beat_every_s
        self._state = threading.Condition()
        self._work = False
        self._hurry = False
        self._ending = False
        self._failures = 0
        self._attempts = 0
        self._thread: threading.Thread | None = None

    @property
    def failing(self) -> bool:
        """Whether the store did not answer the last time it was asked."""
        return self._failures > 0

    def start(self) -> None:
        """Start the thread, once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"sender {self._run_id[:8]}", daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """Say that there is something to send."""
        self.start()
        with self._state:
            self._work = True
            self._state.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Send everything now; returns whether the store has it.

        Waits until it does, for one attempt that fails, or for ``timeout_s`` seconds.
        """
        if not self._spool.pending:
            return True
        deadline = time.monotonic() + timeout_s
        with self._state:
            begun = self._attempts
            self._hurry = True
        self.wake()
        with self._state:
            while self._spool.pending and time.monotonic() < deadline:
                if self._failures and self._attempts > begun:
                    break
                self._state.wait(min(1.0, max(0.0, deadline - time.monotonic())))
            self._hurry = False
        return not self._spool.pending

    def close(self) -> None:
        """End the thread; one that hangs on the store is left behind."""
        with self._state:
            self._ending = True
            self._state.notify_all()
        if self._thread is not None:
            self._thread.join(1.0)

    def _run(self) -> None:
        last = 0.0
        while True:
            with self._state:
                while not self._ending and not self._due(last):
                    self._state.wait(self._until_due(last))
                if self._ending:
                    return
                self._work = False
            try:
                self._send()
                self._failures = 0
            except Exception as error:
                self._failures += 1
                if self._failures == 1:
                    reason = (str(error).splitlines() or [type(error).__name__])[0]
                    log.warning(
                        "the store does not answer (%s); metrics and files wait in %s",
                        without_credentials(reason),
                        self._spool.folder,
                    )
            last = time.monotonic()
            with self._state:
                self._attempts += 1
                self._work = self._work or self._failures > 0
                self._state.notify_all()

    def _send(self) -> None:
        if self._beat is not None and time.monotonic() >= self._next_beat:
            self._beat()
            self._next_beat = time.monotonic() + self._beat_every_s
        delivery.send_points(self._client, self._run_id, self._spool)
        for item in self._spool.items():
            delivery.deliver(self._client, self._run_id, self._spool, item)

    def _due(self, last: float) -> bool:
        return self._until_due(last) <= 0

    def _until_due(self, last: float) -> float:
        now = time.monotonic()
        until_beat = max(self._next_beat, last + self._pause()) - now if self._beat else 3600.0
        if not self._work:
            return until_beat
        if self._hurry:
            return 0.0 if not self._failures else min(until_beat, last + APART_S - now)
        return min(until_beat, last + self._pause() - now)

    def _pause(self) -> float:
        return min(LONGEST_PAUSE_S, APART_S * 2 ** min(self._failures, 10)) if self._failures else APART_S

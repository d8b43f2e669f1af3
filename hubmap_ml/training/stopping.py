"""Being asked to stop (Ctrl-C, SIGTERM) while a network is trained: noticed at once, obeyed when the state is whole."""

import logging
import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_REQUEST_S = 1.0
"""One request may come twice: to the whole process group, and passed on by the parent."""


class StopAskedError(Exception):
    """Raised where work may be given up because a stop was asked for."""


class StopRequest:
    """Remembers a request to stop; a second one interrupts at once. A context manager around the training.

    Signals are heard in a process's main thread only; one that the process ignores stays ignored.

    Args:
        file: asks by being there, in place of signals: for ranks, which are asked by the process that started them.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._asked = False
        self._file = file
        self._heard = 0.0
        self._before: dict[signal.Signals, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether somebody asked."""
        return self._asked or (self._file is not None and self._file.exists())

    def give_up(self) -> None:
        """Leave work that can be done again.

        Raises:
            StopAskedError: a stop was asked for.
        """
        if self.asked:
            raise StopAskedError

    def __enter__(self) -> "StopRequest":
        if self._file is None and threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._asked and now - self._heard > SAME_REQUEST_S:
            raise KeyboardInterrupt
        if self._asked:
            return
        self._asked, self._heard = True, now
        log.warning("stopping after this iteration; once more stops at once")

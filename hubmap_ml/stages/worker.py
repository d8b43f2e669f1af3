"""One long-lived process for everything that needs torch, so that the command that started it stays light.

It is spawned, works on one call after the other, and dies with its parent. Steps that need no torch run in the parent.
"""

import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from hubmap_ml.spec import InputError, hide_credentials_in_logs

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class WorkerError(Exception):
    """The worker failed for a reason that is not the user's input; carries its traceback as text."""


class TorchWorker:
    """A spawned process that runs importable functions and returns what they return."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        level = logging.getLogger("hubmap_ml").getEffectiveLevel()
        # Not a daemon: daemons may not have children, and data loading has some.
        self._process = context.Process(
            target=_serve, args=(other, os.getpid(), level), name="hubmap-ml worker"
        )
        self._process.start()
        other.close()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a module-level function in the worker.

        Raises:
            InputError: as raised by the function.
            WorkerError: anything else that went wrong there, the death of the process included.
        """
        try:
            self._connection.send((function, arguments))
            kind, value = self._connection.recv()
        except (EOFError, ConnectionError, OSError):
            self._process.join(10)
            code = self._process.exitcode
            why = (
                f"signal {-code} ({signal.Signals(-code).name})" if code and code < 0 else f"exit code {code}"
            )
            hint = "; out of memory?" if code == -signal.SIGKILL else ""
            raise WorkerError(f"the training process ended with {why}{hint}") from None
        if kind == "input":
            raise InputError(value)
        if kind == "error":
            raise WorkerError(value)
        return value

    def close(self) -> None:
        """End the process; it is killed where it does not leave by itself."""
        with contextlib.suppress(OSError, ValueError):
            self._connection.send(None)
        self._process.join(10)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._connection.close()

    def __enter__(self) -> "TorchWorker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _serve(connection: Connection, parent: int, level: int) -> None:
    _die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    hide_credentials_in_logs()
    logging.getLogger("hubmap_ml").setLevel(level)
    while True:
        try:
            work = connection.recv()
        except EOFError:
            return
        if work is None:
            return
        function, arguments = work
        try:
            answer = ("result", function(*arguments))
        except InputError as error:
            answer = ("input", str(error))
        except BaseException as error:
            answer = ("error", "".join(traceback.format_exception(error)))
        connection.send(answer)


def _die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process when the parent's ends (Linux); the closed pipe does it elsewhere."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:
        os._exit(1)

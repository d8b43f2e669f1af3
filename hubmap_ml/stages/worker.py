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
from multiprocessing.context import SpawnProcess
from types import FrameType, TracebackType
from typing import Any

from hubmap_ml.spec import InputError, Interrupted, hide_credentials_in_logs

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

LEAVING_S = 60.0
"""How long a worker may take to finish an iteration and write its checkpoint when all is to stop."""


class WorkerError(Exception):
    """The worker failed for a reason that is not the user's input; carries its traceback as text."""


class TorchWorker:
    """A spawned process that runs importable functions and returns what they return; it starts with the first call."""

    def __init__(self) -> None:
        self._process: SpawnProcess | None = None

    @property
    def started(self) -> bool:
        """Whether there was anything to do yet."""
        return self._process is not None

    def _start(self) -> SpawnProcess:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        level = logging.getLogger("hubmap_ml").getEffectiveLevel()
        # Not a daemon: daemons may not have children, and data loading has some.
        process = context.Process(target=_serve, args=(other, os.getpid(), level), name="hubmap-ml worker")
        process.start()
        other.close()
        return process

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a module-level function in the worker.

        Raises:
            InputError: as raised by the function.
            Interrupted: the function was asked to stop and did.
            WorkerError: anything else that went wrong there, the death of the process included.
        """
        if self._process is None:
            self._process = self._start()
        try:
            self._connection.send((function, arguments))
            kind, value = self._answer()
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
        if kind == "interrupted":
            raise Interrupted(value)
        return value

    def _answer(self) -> tuple[str, Any]:
        """Wait for the worker; where this process is interrupted meanwhile, let it save its work and leave."""
        try:
            answer: tuple[str, Any] = self._connection.recv()
        except KeyboardInterrupt:
            assert self._process is not None
            self._process.terminate()  # SIGTERM: it stops when its state is whole
            if not self._connection.poll(LEAVING_S):
                raise
            answer = self._connection.recv()
            if answer[0] == "result":
                raise
        return answer

    def close(self) -> None:
        """End the process, if it was started; it is killed where it does not leave by itself."""
        if self._process is None:
            return
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
    signal.signal(signal.SIGTERM, _interrupt)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    hide_credentials_in_logs()
    logging.getLogger("hubmap_ml").setLevel(level)
    while True:
        try:
            work = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        if work is None:
            return
        function, arguments = work
        try:
            answer = ("result", function(*arguments))
        except InputError as error:
            answer = ("input", str(error))
        except KeyboardInterrupt as error:
            answer = ("interrupted", str(error) or "interrupted; start it again to go on")
        except BaseException as error:
            answer = ("error", "".join(traceback.format_exception(error)))
        connection.send(answer)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process when the parent's ends (Linux); the closed pipe does it elsewhere."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:
        os._exit(1)

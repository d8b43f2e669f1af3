import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from hubmap_ml.spec import InputError
from hubmap_ml.stages.worker import TorchWorker, WorkerError

PARENT = """
import os, time
from hubmap_ml.stages.worker import TorchWorker
if __name__ == "__main__":
    worker = TorchWorker()
    print(worker.call(os.getpid), flush=True)
    time.sleep(60)
"""


def refuse(text: str) -> None:
    raise InputError(text)


def divide(a: int, b: int) -> float:
    return a / b


def end_with(number: int) -> None:
    os.kill(os.getpid(), number)


def test_calls_share_one_process_that_is_not_this_one() -> None:
    with TorchWorker() as worker:
        first = worker.call(os.getpid)
        assert first != os.getpid()
        assert worker.call(os.getpid) == first
        assert worker.call(divide, 3, 2) == 1.5
    assert not psutil.pid_exists(first)


def test_bad_input_comes_back_as_it_was_said_and_the_worker_goes_on() -> None:
    with TorchWorker() as worker:
        with pytest.raises(InputError, match=r"^no such file$"):
            worker.call(refuse, "no such file")
        with pytest.raises(WorkerError, match="ZeroDivisionError"):
            worker.call(divide, 1, 0)
        assert worker.call(divide, 4, 2) == 2


def test_a_killed_worker_is_said_with_its_signal() -> None:
    with TorchWorker() as worker, pytest.raises(WorkerError, match="SIGKILL.*out of memory"):
        worker.call(end_with, signal.SIGKILL)


def test_a_worker_dies_with_its_parent(tmp_path: object) -> None:
    script = os.path.join(str(tmp_path), "parent.py")
    with open(script, "w") as out:
        out.write(PARENT)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE

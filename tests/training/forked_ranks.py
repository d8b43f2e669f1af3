"""Ranks as forks of the process that tests: they work as under torchrun, without its start of half a minute."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

from hubmap_ml.spec import Recorder
from hubmap_ml.training import rank as rank_process
from hubmap_ml.training.distributed import OUTPUT, end_with_parent
from hubmap_ml.training.rank_job import stop_file
from hubmap_ml.training.rank_recorder import Relay
from hubmap_ml.training.stopping import StopRequest


def run_forked(command: list[str], folder: Path, recorder: Recorder) -> int:
    """In place of ``distributed._run``: fork the ranks and hand on what the first records; returns an exit code."""
    world = int(command[command.index("--nproc-per-node") + 1])
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    waiting = {_fork(folder, rank, world, port) for rank in range(world)}
    (folder / OUTPUT).touch()  # torchrun's words
    relay = Relay(folder, recorder)
    codes = []
    try:
        with StopRequest() as stop:
            while waiting:
                relay.run()
                if stop.asked:
                    stop_file(recorder.folder).touch()
                for pid in list(waiting):
                    done, status = os.waitpid(pid, os.WNOHANG)
                    if done:
                        waiting.remove(pid)
                        codes.append(os.waitstatus_to_exitcode(status))
                time.sleep(0.01)
    finally:
        for pid in waiting:
            os.kill(pid, signal.SIGKILL)
    relay.run()
    return max(codes, key=abs)


def _fork(folder: Path, rank: int, world: int, port: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        end_with_parent()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
        os.environ.update(meeting, RANK=str(rank), LOCAL_RANK=str(rank))
        output = os.open(folder / f"output_{rank}.txt", os.O_CREAT | os.O_WRONLY)
        os.dup2(output, 1)
        os.dup2(output, 2)
        rank_process.work(folder)
        code = 0
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    finally:
        os._exit(code)

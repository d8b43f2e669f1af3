"""A training on several processes, one network: started through torchrun, recorded by the process that starts it.

The job is written into the run's folder and `hubmap_ml.training.rank` runs as every rank. Rank 0 writes checkpoints
there; what it records comes here as lines of a file (`rank_recorder`). Ranks get none of the variables of the store.

When one rank ends, torchrun ends the others; when this process ends, the kernel ends all of them (Linux). Asked to
stop, this process leaves a file that says so; the ranks agree on the iteration after which they save and leave.
"""

import ctypes
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import hubmap_ml
from hubmap_ml.spec import InputError, Interrupted, Processes, Recorder
from hubmap_ml.training.contract import FitData, FitInputs, FitResult
from hubmap_ml.training.rank_job import FOLDER, RESULT, read_ends, read_result, stop_file, write_job
from hubmap_ml.training.rank_recorder import Relay
from hubmap_ml.training.stopping import StopRequest

OUTPUT = "output.txt"
POLL_S = 0.05
PATIENCE_S = 30
TORCHRUN = "torch.distributed.run"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class RankError(Exception):
    """A rank ended for a reason that is not the user's input."""


def fit_on_ranks(
    trainer: str,
    processes: Processes,
    inputs: FitInputs,
    data: FitData,
    recorder: Recorder,
    resume_from: Path | None = None,
) -> FitResult:
    """As a trainer's ``fit``, on several processes.

    Raises:
        InputError: as by ``fit``; or a global batch that the processes cannot share, or one GPU for all of them.
        Interrupted: as by ``fit``.
        RankError: a rank ended otherwise; names it.
    """
    processes.check()
    processes.check_batch(int(inputs.config["batch"]["global"]))
    if data.device.startswith("cuda:"):
        raise InputError(
            f"device {data.device!r} is one GPU: several processes take one each, use device cuda"
        )
    folder = recorder.folder / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    write_job(folder, trainer, inputs, data, recorder.folder, resume_from)
    command = _command(processes, folder)
    if processes.nodes > 1:
        recorder.progress(f"on each other node, in the same folder: {' '.join(map(str, command[1:]))}")
    code = _run(command, folder, recorder)
    ends = read_ends(folder)
    for end in ends:
        if end.kind == "input":
            raise InputError(end.message)
    for end in ends:
        if end.kind == "interrupted":
            raise Interrupted(end.message)
    if code or not (folder / RESULT).exists():
        raise RankError(_what_ended(folder, processes, code))
    return read_result(folder / RESULT)


def _run(command: list[str], folder: Path, recorder: Recorder) -> int:
    """Run torchrun to its end and hand on what rank 0 records; returns the exit code."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    code = str(Path(hubmap_ml.__file__).resolve().parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (code, environment.get("PYTHONPATH", ""))))
    environment.setdefault("OMP_NUM_THREADS", "1")
    relay = Relay(folder, recorder)
    with StopRequest() as stop, (folder / OUTPUT).open("w") as out:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C goes to a terminal's whole group; this process decides
            preexec_fn=end_with_parent,
        )
        try:
            while process.poll() is None:
                relay.run()
                if stop.asked:
                    stop_file(recorder.folder).touch()
                time.sleep(POLL_S)
            relay.run()
        finally:
            _end(process)
    return process.returncode


def _command(processes: Processes, folder: Path) -> list[str]:
    one = processes.nodes == 1
    meeting = ["--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]  # port 0: a free one
    return [
        sys.executable,
        *("-m", TORCHRUN),
        *("--nproc-per-node", str(processes.nproc)),
        *("--nnodes", str(processes.nodes)),
        *("--rdzv-backend", "c10d"),
        *(meeting if one else ["--rdzv-endpoint", processes.rdzv]),
        *("--rdzv-id", secrets.token_hex(8) if one else folder.parent.name),
        *("--max-restarts", "0"),
        *("-m", "hubmap_ml.training.rank", str(folder.resolve())),
    ]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End torchrun, which ends its ranks; they die with it in any case."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_with_parent() -> None:
    """Ask the kernel to kill this process when the parent's ends (Linux).

    At once, not softly: whoever starts the stage again must find nobody at work on its checkpoints.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def die_with_torchrun() -> None:
    """For a rank: torchrun's death is its own (Linux), also if it came before this."""
    import psutil

    end_with_parent()
    if TORCHRUN not in psutil.Process(os.getppid()).cmdline():
        os._exit(1)


def _what_ended(folder: Path, processes: Processes, code: int) -> str:
    """Name the rank that ended first, and why; the others end because of it.

    A rank that was killed leaves no word, and torchrun knows its signal; of those that raised, the first counts.
    """
    output = (folder / OUTPUT).read_text()
    where = f"all it said is in {folder / OUTPUT}"
    known = re.findall(r"rank\s*:\s*(\d+) .*?\n\s*exitcode\s*:\s*(-?\d+)", output)
    for rank, status in known:
        number = -int(status)
        if number > 0 and number != signal.SIGTERM:
            hint = "; out of memory?" if number == signal.SIGKILL else ""
            name = signal.Signals(number).name
            return f"rank {rank} of {processes.world} ended with signal {number} ({name}){hint}; {where}"
    for end in read_ends(folder):
        return f"rank {end.rank} of {processes.world} ended: {end.message}; {where}"
    last = (output.strip().splitlines() or ["no message"])[-1]
    return f"the training on {processes.world} processes ended with exit code {code}: {last}; {where}"

"""What rank 0 of a training records, as lines of a file that the process which started it reads and hands on.

One process alone talks to the tracking store: the one that started the ranks.
"""

import itertools
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.spec import Recorder

EVENTS = "events.jsonl"
ANSWER_POLL_S = 0.01


class RankRecorder:
    """Rank 0's recorder: each call becomes a line of a file. Other ranks say nothing."""

    def __init__(self, folder: Path, run: Path, *, speaks: bool) -> None:
        self.folder = run
        self._job = folder
        self._speaks = speaks
        self._pictures = 0
        self._questions = itertools.count()

    @property
    def position(self) -> int:
        """Of the recorder that hears all this, when it has heard what was said so far; 0 for silent ranks."""
        if not self._speaks:
            return 0
        answer = self._job / f"position_{next(self._questions)}"
        self._say("position", path=str(answer))
        while not answer.exists():
            time.sleep(ANSWER_POLL_S)
        found = int(answer.read_text())
        answer.unlink()
        return found

    def continue_from(self, metrics: Path, position: int) -> None:
        self._say("continue_from", metrics=str(metrics), position=position)

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        self._say("metrics", values={key: float(value) for key, value in values.items()}, step=step)

    def flush(self) -> None:
        self._say("flush")

    def params(self, values: Mapping[str, object]) -> None:
        self._say("params", values={key: str(value) for key, value in values.items()})

    def image(self, image: NDArray[np.uint8], *, key: str, step: int) -> None:
        if not self._speaks:
            return
        path = self._job / f"picture_{self._pictures}.npy"
        self._pictures += 1
        np.save(path, image, allow_pickle=False)
        self._say("image", path=str(path), key=key, step=step)

    def artifact(self, path: Path, folder: str = "") -> None:
        self._say("artifact", path=str(path), folder=folder)

    def checkpoint(self, folder: Path, *, step: int) -> None:
        self._say("checkpoint", folder=str(folder), step=step)
        _ = self.position  # it is heard: rank 0 may change the folder again

    def data(self, value: Any, name: str) -> None:
        self._say("data", value=value, name=name)

    def progress(self, text: str) -> None:
        self._say("progress", text=text)

    def _say(self, call: str, **arguments: Any) -> None:
        if self._speaks:
            with (self._job / EVENTS).open("a") as out:
                out.write(json.dumps({"call": call, **arguments}) + "\n")


class Relay:
    """Hands on to a recorder the lines that rank 0 wrote since the last time."""

    def __init__(self, folder: Path, recorder: Recorder) -> None:
        self._path = folder / EVENTS
        self._recorder = recorder
        self._read = 0

    def run(self) -> None:
        """Hand on what is there."""
        for line in self._new_lines():
            said = json.loads(line)
            call = said.pop("call")
            if call == "image":
                path = Path(said.pop("path"))
                self._recorder.image(np.load(path, allow_pickle=False), **said)
                path.unlink()
            elif call == "artifact":
                self._recorder.artifact(Path(said["path"]), said["folder"])
            elif call == "checkpoint":
                self._recorder.checkpoint(Path(said["folder"]), step=said["step"])
            elif call == "continue_from":
                self._recorder.continue_from(Path(said["metrics"]), said["position"])
            elif call == "position":
                _answer(Path(said["path"]), str(self._recorder.position))
            else:
                getattr(self._recorder, call)(**said)

    def _new_lines(self) -> Iterator[bytes]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):  # being written
                    return
                self._read += len(line)
                yield line


def _answer(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}")
    beside.write_text(text)
    beside.replace(path)

"""The one error that a person is meant to read: bad input, said in one line."""


class InputError(Exception):
    """Something a person gave is wrong.

    The message is one line: what was found, where (file, record), what to do about it. The command line prints it
    without a traceback and exits with 2; the MLflow run ends FAILED with it as its note.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Interrupted(KeyboardInterrupt):
    """Somebody asked to stop, and the work was left so that it can go on; the message says where it stands."""


class DoneElsewhere(Exception):
    """Another process finished the same work while this one waited for it; nothing is left to do.

    Attributes:
        run_id: the finished run.
        verdict, headline: as it said them.
    """

    def __init__(self, run_id: str, verdict: str, headline: float | None) -> None:
        super().__init__(run_id, verdict, headline)
        self.run_id = run_id
        self.verdict = verdict
        self.headline = headline

    def __str__(self) -> str:
        return f"{self.verdict} (another process finished it meanwhile: run {self.run_id})"

"""The one error that a person is meant to read: bad input, said in one line."""


class InputError(Exception):
    """Something a person gave is wrong.

    The message is one line: what was found, where (file, record), what to do about it. The command line prints it
    without a traceback and exits with 2; the MLflow run ends FAILED with it as its note.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))

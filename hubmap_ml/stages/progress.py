"""A progress bar with what is done, what is left and when it will end; nothing where nobody looks (a file, a pipe)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Told(Protocol):
    """Takes what is done, out of how much, and a few words."""

    def __call__(self, done: int, total: int, words: str = "") -> None: ...


@contextmanager
def progress_bar(title: str) -> Iterator[Told]:
    """Show a bar on standard error while the block runs.

    Yields:
        A function to call with (done, in all), and perhaps what to say beside the title.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total, words="": None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(title, total=None)
        yield lambda done, total, words="": bars.update(
            task, completed=done, total=total, description=" ".join(filter(None, (title, words)))
        )

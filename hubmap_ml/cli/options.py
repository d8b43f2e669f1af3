"""Options that several commands share, declared once, and how their texts are read.

MLflow hands parameters over as texts, numbers sometimes with a point; so numbers and truth values of stages are texts
here too.
"""

from pathlib import Path
from typing import Annotated

import typer


def experiment_names() -> list[str]:
    """Return the experiments of the current folder, for the shell's completion."""
    return sorted(path.parent.name for path in Path("experiments").glob("*/experiment.yaml"))


ExperimentName = Annotated[
    str,
    typer.Option(
        "--experiment",
        help="A file, a folder, or a name in experiments/.",
        autocompletion=experiment_names,
    ),
]
Raw = Annotated[str, typer.Option("--raw", help="Folder of raw files, in place of the experiment's own.")]
MemberName = Annotated[
    str, typer.Option("--member", help="Member of the experiment; the first where none is given.")
]
Fold = Annotated[str, typer.Option("--fold", help="Fold that is held out.")]
Changes = Annotated[
    str, typer.Option("--set", help="Changes to members' configurations: 'optimizer.lr=0.02;...'.")
]
Workers = Annotated[str, typer.Option("--workers", help="Processes that load data; -1 chooses by the cores.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Nproc = Annotated[
    str, typer.Option("--nproc", help="Processes that train one network here; on GPUs one each.")
]
Nodes = Annotated[str, typer.Option("--nodes", help="Machines that train one network together.")]
Rdzv = Annotated[str, typer.Option("--rdzv", help="HOST:PORT on the first of several nodes.")]
WithUpstream = Annotated[
    str, typer.Option("--with-upstream", help="true: run a missing training stage first.")
]
Fresh = Annotated[
    str, typer.Option("--fresh", help="true: do the work again though a finished run has the same inputs.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON line.")]


def whole(text: str, name: str) -> int:
    """Read a whole number; MLflow writes its numbers as text, sometimes with a point.

    Raises:
        InputError: it is none.
    """
    from hubmap_ml.spec.errors import InputError

    try:
        number = float(text)
        if number != int(number):
            raise ValueError
    except (ValueError, OverflowError):
        raise InputError(f"--{name} is {text!r}; it must be a whole number") from None
    return int(number)


def yes(text: str, name: str) -> bool:
    """Read true or false.

    Raises:
        InputError: it is neither.
    """
    from hubmap_ml.spec.errors import InputError

    if text.lower() not in ("true", "false"):
        raise InputError(f"--{name} is {text!r}; it must be true or false")
    return text.lower() == "true"


def with_options(words: list[str]) -> list[str]:
    """Read ``-P key=value``, as ``mlflow run`` takes it, as ``--key value``; other words stay as they are."""
    changed: list[str] = []
    rest = iter(words)
    for word in rest:
        given = next(rest, "") if word == "-P" else ""
        key, equals, value = given.partition("=")
        changed += [f"--{key.replace('_', '-')}", value] if equals and key else [word, *filter(None, [given])]
    return changed

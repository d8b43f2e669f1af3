"""The command line: one command a stage, and the commands that are no stage.

Heavy imports stand inside functions: ``--help`` answers in under a second. Bad input ends with one line and exit code
2; ``--debug`` shows the traceback.
"""

import logging
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hubmap_ml.cli import compare, ensemble_files, from_outside, plan, records, rollback, score, tune

if TYPE_CHECKING:
    from hubmap_ml.stages.session import Outcome

app = typer.Typer(
    name="hubmap-ml",
    help="Experiments in biomedical segmentation: from raw files to a registered ensemble and its submission.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ExperimentName = Annotated[
    str, typer.Option("--experiment", help="A file, a folder, or a name in experiments/.")
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


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug messages.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say warnings only.")] = False,
) -> None:
    """Set up what all commands share."""
    from hubmap_ml.spec.credentials import hide_credentials_in_logs

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    hide_credentials_in_logs()
    level = logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO
    logging.getLogger("hubmap_ml").setLevel(level)


def main() -> None:
    """Run the command line; the console script."""
    sys.argv[1:] = with_options(sys.argv[1:])
    debug = "--debug" in sys.argv[1:]
    if debug:  # allowed anywhere on the line
        sys.argv = [sys.argv[0], "--debug", *(word for word in sys.argv[1:] if word != "--debug")]
    from hubmap_ml.spec.credentials import without_credentials
    from hubmap_ml.spec.errors import DoneElsewhere, InputError

    signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C: save, end the run, leave
    try:
        app()
    except DoneElsewhere as done:
        typer.echo(str(done))
    except InputError as error:
        _fail_waiting_run(str(error))
        if debug:
            raise
        print(f"hubmap-ml: {without_credentials(str(error))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as error:
        print(f"hubmap-ml: {str(error) or 'interrupted'}", file=sys.stderr)
        sys.exit(130)
    except SystemExit as end:
        if end.code == 130:  # Typer turns an interruption into this, without its words
            print(f"hubmap-ml: {_words_of_interruption(end)}", file=sys.stderr)
        raise
    except Exception as error:
        _fail_waiting_run(f"{type(error).__name__}: {error}")
        if debug:
            raise
        lines = without_credentials(str(error)).strip().splitlines() or [""]
        print(f"hubmap-ml: {type(error).__name__}: {lines[-1]} (--debug shows where)", file=sys.stderr)
        sys.exit(1)


@app.command("main")
def main_command(
    experiment: ExperimentName = "demo",
    raw: Raw = "",
    set: Changes = "",
    workers: Workers = "-1",
    device: Device = "auto",
    fresh: Fresh = "false",
) -> None:
    """Run the whole chain of an experiment. Example: hubmap-ml main --experiment demo"""
    _chain(
        experiment=experiment,
        raw=raw,
        set=set,
        workers=_whole(workers, "workers"),
        device=device,
        fresh=_yes(fresh, "fresh"),
    )


@app.command()
def demo() -> None:
    """Run the whole chain on generated tissue (ten minutes on two cores), and say how to look at it."""
    _chain(experiment="demo")
    typer.echo(f"Look at it: {Path(sys.executable).parent / 'hubmap-ml'} ui")


@app.command()
def prepare(
    experiment: ExperimentName = "demo", raw: Raw = "", workers: Workers = "-1", fresh: Fresh = "false"
) -> None:
    """Convert raw files and assign folds. Example: hubmap-ml prepare --experiment nuclei --raw FOLDER"""
    from hubmap_ml.stages import prepare as stage

    _tell(
        stage.run(
            experiment=experiment, raw=raw, workers=_whole(workers, "workers"), fresh=_yes(fresh, "fresh")
        )
    )


@app.command()
def pretrain(
    experiment: ExperimentName = "demo",
    member: MemberName = "",
    fold: Fold = "0",
    raw: Raw = "",
    set: Changes = "",
    workers: Workers = "-1",
    device: Device = "auto",
    fresh: Fresh = "false",
    nproc: Nproc = "1",
    nodes: Nodes = "1",
    rdzv: Rdzv = "",
) -> None:
    """Train stage 1 of a member. Example: hubmap-ml pretrain --member htc --set runner.max_epochs=2"""
    from hubmap_ml.stages import pretrain as stage

    _tell(
        stage.run(
            experiment=experiment,
            member=member,
            fold=_whole(fold, "fold"),
            raw=raw,
            set=set,
            workers=_whole(workers, "workers"),
            device=device,
            fresh=_yes(fresh, "fresh"),
            nproc=_whole(nproc, "nproc"),
            nodes=_whole(nodes, "nodes"),
            rdzv=rdzv,
        )
    )


@app.command()
def finetune(
    experiment: ExperimentName = "demo",
    member: MemberName = "",
    fold: Fold = "0",
    raw: Raw = "",
    set: Changes = "",
    workers: Workers = "-1",
    device: Device = "auto",
    with_upstream: WithUpstream = "false",
    fresh: Fresh = "false",
    nproc: Nproc = "1",
    nodes: Nodes = "1",
    rdzv: Rdzv = "",
) -> None:
    """Train stage 2 of a member on one fold. Example: hubmap-ml finetune --member htc --fold 1"""
    from hubmap_ml.stages import finetune as stage

    _tell(
        stage.run(
            experiment=experiment,
            member=member,
            fold=_whole(fold, "fold"),
            raw=raw,
            set=set,
            workers=_whole(workers, "workers"),
            device=device,
            with_upstream=_yes(with_upstream, "with-upstream"),
            fresh=_yes(fresh, "fresh"),
            nproc=_whole(nproc, "nproc"),
            nodes=_whole(nodes, "nodes"),
            rdzv=rdzv,
        )
    )


@app.command()
def predict(
    experiment: ExperimentName = "demo",
    member: MemberName = "",
    fold: Fold = "0",
    raw: Raw = "",
    set: Changes = "",
    workers: Workers = "-1",
    device: Device = "auto",
    with_upstream: WithUpstream = "false",
    fresh: Fresh = "false",
) -> None:
    """Write candidates with one fold's network. Example: hubmap-ml predict --member htc --fold 1"""
    from hubmap_ml.stages import predict as stage

    _tell(
        stage.run(
            experiment=experiment,
            member=member,
            fold=_whole(fold, "fold"),
            raw=raw,
            set=set,
            workers=_whole(workers, "workers"),
            device=device,
            with_upstream=_yes(with_upstream, "with-upstream"),
            fresh=_yes(fresh, "fresh"),
        )
    )


@app.command()
def promote(
    experiment: ExperimentName = "demo",
    raw: Raw = "",
    set: Changes = "",
    workers: Workers = "-1",
    device: Device = "auto",
    with_upstream: WithUpstream = "false",
    fresh: Fresh = "false",
) -> None:
    """Register the members that pass the gate. Example: hubmap-ml promote --experiment demo"""
    from hubmap_ml.stages import promote as stage

    _tell(
        stage.run(
            experiment=experiment,
            raw=raw,
            set=set,
            workers=_whole(workers, "workers"),
            device=device,
            with_upstream=_yes(with_upstream, "with-upstream"),
            fresh=_yes(fresh, "fresh"),
        )
    )


@app.command()
def ensemble(
    experiment: ExperimentName = "demo",
    raw: Raw = "",
    fresh: Fresh = "false",
    truth: ensemble_files.Truth = None,
    predictions: ensemble_files.Predictions = None,
    further: ensemble_files.Further = None,
    report: ensemble_files.Report = Path("ensemble.html"),
    metric: ensemble_files.Metric = "ap60",
) -> None:
    """Fuse the promoted members and register the result, or compare anyone's files.

    Examples: hubmap-ml ensemble --experiment demo;
    hubmap-ml ensemble --truth coco.json --predictions a.json b.json c.json --report out.html
    """
    files = [*(predictions or []), *(further or [])]
    if truth is not None:
        ensemble_files.compare(truth, files, report, metric)
        return
    ensemble_files.refuse_without_truth(files)
    from hubmap_ml.stages import ensemble as stage

    _tell(stage.run(experiment=experiment, raw=raw, fresh=_yes(fresh, "fresh")))


@app.command()
def submit(
    experiment: ExperimentName = "demo",
    raw: Raw = "",
    model: Annotated[
        str, typer.Option("--model", help="models:/NAME@ALIAS; the champion where none is given.")
    ] = "",
    predictions: Annotated[
        str, typer.Option("--predictions", help="Stored predictions instead of a model.")
    ] = "",
    device: Device = "auto",
    fresh: Fresh = "false",
) -> None:
    """Write the competition's csv for the test images. Example: hubmap-ml submit --experiment demo"""
    from hubmap_ml.stages import submit as stage

    outcome = stage.run(
        experiment=experiment,
        raw=raw,
        model=model,
        predictions=predictions,
        device=device,
        fresh=_yes(fresh, "fresh"),
    )
    _tell(outcome)
    typer.echo(str(outcome.details["file"]))


@app.command()
def report(experiment: ExperimentName = "demo", raw: Raw = "", fresh: Fresh = "false") -> None:
    """Write one page with scores, chain and overlays. Example: hubmap-ml report --experiment demo"""
    from hubmap_ml.stages import report as stage

    outcome = stage.run(experiment=experiment, raw=raw, fresh=_yes(fresh, "fresh"))
    _tell(outcome)
    typer.echo(str(outcome.details["page"]))


@app.command()
def evaluate(
    truth: Annotated[Path, typer.Option("--truth", help="COCO json.")],
    predictions: Annotated[
        Path,
        typer.Option(
            "--predictions", help="COCO results json, a folder of our Parquet, or a submission csv."
        ),
    ],
    metric: Annotated[str, typer.Option("--metric", help="ap60, coco_segm, dice or dsb_map.")] = "ap60",
    json: Annotated[bool, typer.Option("--json", help="End with one JSON line.")] = False,
) -> None:
    """Score predictions. Example: hubmap-ml evaluate --truth t.json --predictions p.json --metric ap60 --json"""
    from hubmap_ml.stages import evaluate as stage

    stage.show(stage.run(truth, predictions, metric), as_json=json)


@app.command()
def doctor(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Look at this machine: python, torch, compiled operations, GPU, conda, store, disk."""
    import json as json_format

    from hubmap_ml.cli import doctor as examination

    found = examination.report()
    if json:
        typer.echo(json_format.dumps(found))
    else:
        examination.render(found)


@app.command()
def ui(
    port: Annotated[int, typer.Option("--port", help="Port on this machine.")] = 5000,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = False,
) -> None:
    """Start MLflow's pages on the project's store, in the model-training view."""
    from hubmap_ml.tracking import serve_ui

    serve_ui(port, open_browser=open_browser)


def with_options(words: list[str]) -> list[str]:
    """Read ``-P key=value``, as ``mlflow run`` takes it, as ``--key value``; other words stay as they are."""
    changed: list[str] = []
    rest = iter(words)
    for word in rest:
        if word != "-P":
            changed.append(word)
            continue
        key, equals, value = next(rest, "").partition("=")
        changed += [f"--{key.replace('_', '-')}", value] if equals and key else [word, key]
    return changed


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _words_of_interruption(error: BaseException | None) -> str:
    while error is not None:
        if isinstance(error, KeyboardInterrupt) and str(error):
            return str(error)
        error = error.__cause__ or error.__context__
    return "interrupted"


def _chain(**parameters: Any) -> None:
    from hubmap_ml.cli.tables import print_chain, step_printer
    from hubmap_ml.stages import main as stage

    stage.run(**parameters, told=step_printer(), shown=print_chain)


def _tell(outcome: "Outcome") -> None:
    how = "reused " if outcome.reused else ""
    typer.echo(f"{outcome.name}: {outcome.verdict} ({how}run {outcome.run_id}, {outcome.seconds:.0f} s)")


def _whole(text: str, name: str) -> int:
    """Read a whole number; MLflow writes its numbers as text, sometimes with a point."""
    from hubmap_ml.spec.errors import InputError

    try:
        number = float(text)
        if number != int(number):
            raise ValueError
    except (ValueError, OverflowError):
        raise InputError(f"--{name} is {text!r}; it must be a whole number") from None
    return int(number)


def _yes(text: str, name: str) -> bool:
    from hubmap_ml.spec.errors import InputError

    if text.lower() not in ("true", "false"):
        raise InputError(f"--{name} is {text!r}; it must be true or false")
    return text.lower() == "true"


def _fail_waiting_run(message: str) -> None:
    """End the run that MLflow made for this call, if one waits; without MLflow's import where none does."""
    import os

    if os.environ.get("MLFLOW_RUN_ID"):
        from hubmap_ml.tracking import fail_waiting_run

        fail_waiting_run(message)


compare.register(app)
tune.register(app)
plan.register(app)
rollback.register(app)
records.register(app)
from_outside.register(app)
score.register(app)

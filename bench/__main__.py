"""`scripts/bench COMMAND`: see `--help`."""

from pathlib import Path
from typing import Annotated

import typer

from bench import engine as engines
from bench import gateway as gateways
from bench import installed
from bench import pipeline as pipelines
from bench import pool as pools
from bench import scale as scales
from bench import simulation as simulations
from bench import workers as several
from bench.results import fill

app = typer.Typer(
    help="Measure this service, and others beside it, in one run. Results go to bench-results/.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Out = Annotated[Path, typer.Option(metavar="DIR", help="where results are written")]


@app.command()
def peers() -> None:
    """Install the others, each in a place of its own in the cache folder; what cannot be installed is left out."""
    failed = False
    for peer in [*installed.PEERS, installed.REFERENCE, installed.CELERY, installed.PLOT]:
        reason = installed.install(peer)
        typer.echo(f"{peer.name}: {'installed' if reason is None else f'left out: {reason}'}")
        failed |= reason is not None
    if failed:
        raise typer.Exit(1)


@app.command()
def engine(
    quick: Annotated[bool, typer.Option("--quick", help="small pictures, one turn each: whether it works, not how fast")] = False,
    out: Out = Path("bench-results"),
) -> None:
    """CPU time, memory and quality of one picture's processing, on one thread."""
    engines.run(out, quick=quick)


@app.command()
def pipeline(
    quick: Annotated[
        bool, typer.Option("--quick", help="one small picture, one turn each: whether it works, not how fast")
    ] = False,
    out: Out = Path("bench-results"),
) -> None:
    """CPU time of each process an image and time to completed, on the real services; the same job with Celery beside it."""
    pipelines.run(out, quick=quick)


@app.command()
def pool(
    quick: Annotated[
        bool, typer.Option("--quick", help="small pictures, short turns, one each: whether it works, not how fast")
    ] = False,
    out: Out = Path("bench-results"),
) -> None:
    """How rendering scales from one child process to two, what moving pictures between processes costs, and the memory it takes."""
    pools.run(out, quick=quick)


@app.command()
def steps(
    quick: Annotated[bool, typer.Option("--quick", help="small pictures, one turn each: whether it works, not how fast")] = False,
    out: Out = Path("bench-results"),
) -> None:
    """CPU time of other steps than the default ones, beside libvips."""
    engines.run_steps(out, quick=quick)


@app.command()
def gateway(
    quick: Annotated[bool, typer.Option("--quick", help="for a second each: whether it works, not how fast")] = False,
    out: Out = Path("bench-results"),
) -> None:
    """Uploads and status reads per second of a gateway, beside an empty route; its memory under many large uploads."""
    gateways.run(out, quick=quick)


@app.command()
def scale(
    quick: Annotated[bool, typer.Option("--quick", help="few rows and messages: whether it works, not how fast")] = False,
    rows: Annotated[list[int] | None, typer.Option(metavar="N", help="how many images there are; may be given again")] = None,
    out: Out = Path("bench-results"),
) -> None:
    """What statements cost with few and with many rows, and messages with an empty and with a long queue."""
    scales.run(out, rows, quick=quick)


@app.command()
def workers(
    quick: Annotated[bool, typer.Option("--quick", help="few pictures, one turn each: whether it works, not how fast")] = False,
    out: Out = Path("bench-results"),
) -> None:
    """How much sooner a backlog is done by 1 to 4 workers, in containers of the production stack. Needs a Docker engine."""
    several.run(out, quick=quick)


@app.command()
def simulate(
    rate: Annotated[
        list[float] | None, typer.Option(metavar="N", min=0.1, help="images a second; may be given again; default 10, 1000, 10000")
    ] = None,
    picture: Annotated[str, typer.Option(help="whose costs, where OUT has results of pipeline")] = "640x480",
    seed: Annotated[int, typer.Option(help="the same gives the same")] = 1,
    out: Out = Path("bench-results"),
) -> None:
    """Cores, network, disk and waits at a rate, from what pipeline has measured; see docs/scaling.md."""
    simulations.run(out, rate or [10, 1_000, 10_000], picture, seed)


@app.command()
def page(
    pages: Annotated[list[Path], typer.Argument(help="where <!-- bench: NAME --> and <!-- end --> say what goes between them")],
    out: Out = Path("bench-results"),
) -> None:
    """Put the tables of what has been measured into pages of the documentation."""
    for path in pages:
        typer.echo(f"{path}: {', '.join(fill(path, out)) or 'nothing that it has a place for has been measured'}")


if __name__ == "__main__":
    app()

"""`scripts/bench COMMAND`: see `--help`."""

from pathlib import Path
from typing import Annotated

import typer

from bench import engine as engines
from bench import gateway as gateways
from bench import installed
from bench import pipeline as pipelines
from bench import pool as pools

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
    quick: Annotated[bool, typer.Option("--quick", help="short turns, one each: whether it works, not how fast")] = False,
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


if __name__ == "__main__":
    app()

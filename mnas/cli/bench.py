"""Benchmarks of what mnas is made of: `bench controllers`, `bench proxy`."""

from pathlib import Path
from typing import Annotated

import typer

from mnas.cli.common import Debug, Json, app, print_result, split_list
from mnas.cli.searching import INTERRUPTED

bench = typer.Typer(
    help="Benchmarks: controllers against each other, evaluators against true accuracies.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(bench, name="bench")


@bench.callback()
def _bench() -> None:
    pass


def _several(texts: list[str] | None, flag: str, example: str) -> tuple[str, ...]:
    """Values of a flag that may be given several times and have several values each."""
    return tuple(value for text in texts or () for value in split_list(text, str, flag, example))


@bench.command("controllers")
def bench_controllers(
    benchmark: Annotated[
        str,
        typer.Option(
            help="nas-bench-macro (3,969 trained networks; needs its table), mbconv-additive (1e11 networks, the "
            "optimum known), imagenet-surrogate (1e11 networks, the model of a search without data)."
        ),
    ],
    controllers: Annotated[
        list[str] | None,
        typer.Option(
            help="Separated by commas: guided,optuna:tpe, or your own package.module:factory. random and reinforce are "
            "always there. [default: guided,reinforce,evolution,random]"
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Separated by commas, multiply-adds or milliseconds as the benchmark has them: 50M,60M or 8ms; none "
            "is accuracy only. [default: the benchmark's own]"
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each controller at each target.")] = 30,
    trials: Annotated[int, typer.Option(help="Different networks that each run evaluates.")] = 500,
    batch: Annotated[int, typer.Option(help="Networks wanted in each ask.")] = 1,
    reward: Annotated[str, typer.Option(help="hard, soft or absolute.")] = "hard",
    noisy: Annotated[
        bool,
        typer.Option(
            "--noisy",
            help="Tell of each network one of its trainings, and score what a controller would hand over by its mean.",
        ),
    ] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder with nas-bench-macro_cifar10.json. [default: MNAS_BENCH_DATA]"),
    ] = None,
    processes: Annotated[int | None, typer.Option(help="At once. [default: one a core]")] = None,
    out: Annotated[Path, typer.Option(help="HTML file with the curves.")] = Path("bench-controllers.html"),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Runs controllers on a benchmark whose optimum is known: how near they come with how many evaluations."""
    from mnas.bench import Wanted, bench_controllers, bench_text, write_page
    from mnas.bench.controllers import CONTROLLERS
    from mnas.console import ConsoleReporter
    from mnas.errors import InputError

    if not out.absolute().parent.is_dir() or out.is_dir():
        raise InputError(f"--out takes a file in a folder that is there; got {str(out)!r}.")
    wanted = Wanted(
        benchmark=benchmark,
        controllers=_several(controllers, "--controllers", "guided,random") or CONTROLLERS,
        targets=_several(target, "--target", "50M,60M"),
        seeds=seeds,
        trials=trials,
        batch=batch,
        reward=reward,  # type: ignore[arg-type]  # Wanted checks it
        noisy=noisy,
        data_dir=None if data_dir is None else str(data_dir),
        processes=processes,
    )
    with ConsoleReporter() as reporter:
        result = bench_controllers(wanted, reporter)
    write_page(result, out)
    print_result({**result, "plot": str(out)}, bench_text(result, str(out)), as_json)


@bench.command("proxy")
def bench_proxy(
    benchmark: Annotated[
        str | None,
        typer.Option(help="nas-bench-macro: true accuracies from its table, networks of the space macro."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Images that evaluators see, as of mnas search; with nas-bench-macro CIFAR-10's. Counts need none."
        ),
    ] = None,
    evaluators: Annotated[
        list[str] | None,
        typer.Option(
            help="Separated by commas: madds, params, naswot, synflow, snip; proxy:EPOCHSxIMAGES@PIXELS, the last two "
            "optional; supernet: likewise; model:NAME or model:package.module:factory, an accuracy model; mean:A+B, "
            "the mean of ranks; smooth: before any of them takes its noise out. [default: "
            "madds,params,naswot,synflow,snip,proxy:1x2000@16]"
        ),
    ] = None,
    networks: Annotated[int, typer.Option(help="Random networks that are ranked.")] = 200,
    core_minutes: Annotated[float, typer.Option(help="That each evaluator may spend.")] = 120.0,
    space: Annotated[
        str | None, typer.Option(help="Without --benchmark: the space whose networks are ranked.")
    ] = None,
    truth_epochs: Annotated[
        int | None,
        typer.Option(
            help="Without --benchmark: each network is trained so long on --data, which is the truth."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the networks drawn, and of the evaluators.")] = 0,
    threads: Annotated[int, typer.Option(help="Of torch.")] = 1,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder with nas-bench-macro_cifar10.json. [default: MNAS_BENCH_DATA]"),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="JSON file of the result; scores are kept beside it, in .db.")
    ] = Path("bench-proxy.json"),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Ranks networks by cheap evaluators and says how near each comes to the true ranking, and what it costs."""
    from mnas.bench.proxies import bench_proxies
    from mnas.bench.proxy_plan import EVALUATED, ProxyWanted
    from mnas.bench.proxy_words import proxy_text
    from mnas.console import ConsoleReporter
    from mnas.errors import InputError
    from mnas.files import write_json

    if not out.absolute().parent.is_dir() or out.is_dir() or out.suffix in ("", ".db"):
        raise InputError(
            f"--out takes a file such as proxy.json in a folder that is there; got {str(out)!r}."
        )
    wanted = ProxyWanted(
        evaluators=_several(evaluators, "--evaluators", "madds,naswot,proxy:1x2000@16") or EVALUATED,
        benchmark=benchmark,
        data=data,
        space=space,
        networks=networks,
        truth_epochs=truth_epochs,
        core_minutes=core_minutes,
        seed=seed,
        threads=threads,
        data_dir=None if data_dir is None else str(data_dir),
    )
    with ConsoleReporter() as reporter:
        result = bench_proxies(wanted, out, reporter)
    if result["status"] == "done":
        write_json(out, result)
    print_result(result, proxy_text(result, str(out)), as_json)
    if result["status"] == "interrupted":
        raise typer.Exit(INTERRUPTED)

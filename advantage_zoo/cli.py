"""The command line: parses, calls, prints. Everything heavy is imported by the command that needs it."""

import math
import shlex
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

try:
    import click
except ImportError:  # installed without the extra
    print('The command line needs its extra: pip install "advantage-zoo[cli]"', file=sys.stderr)
    raise SystemExit(2) from None

if TYPE_CHECKING:
    from advantage_zoo.estimator import Estimator
    from advantage_zoo.rollouts import Rollouts


def fail(message: str) -> NoReturn:
    """One sentence on standard error, exit status 2."""
    click.echo(f"Error: {message}", err=True)
    sys.exit(2)


class _Group(click.Group):
    """A group whose commands need not say what to do when a library of the extra is missing."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ImportError as error:
            fail(f'{error}; pip install "advantage-zoo[cli]" brings what the command line needs.')


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="advantage-zoo")
def main() -> None:
    """Advantage estimators for reinforcement learning of language models, side by side.

    \b
    advantage-zoo list                              what there is
    advantage-zoo compare                           all of it, on the rollouts in the package
    advantage-zoo compare mine.parquet -e grpo,ep_grpo --set ep_grpo.num_buckets=5 --report out.html
    advantage-zoo collect --help                    make rollouts from models of your own
    """  # noqa: D301 - click wants the character backspace, not a backslash


@main.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_command(as_json: bool) -> None:
    """List the estimators: what they need, where they come from, what they promise.

    Plugins are packages with an entry point in group advantage_zoo; ADVANTAGE_ZOO_PLUGINS=none|a,b|-a chooses among
    them.
    """
    from advantage_zoo.registry import registry

    found = registry()
    if as_json:
        _print_json(
            {"estimators": [_described(e.key, e.cls, e.plugin) for e in found.listed()], "problems": found.problems}
        )
        return
    from rich import box
    from rich.table import Table

    console = _console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("name", "needs", "arXiv", "plugin"):
        table.add_column(column, no_wrap=column in ("name", "arXiv"), overflow="fold")
    longest = max((len(claim) for e in found.listed() for claim in e.cls.claims), default=0)
    table.add_column("promises", min_width=longest + 1, overflow="fold")  # a cut promise is none; with its comma
    for e in found.listed():
        arxiv = e.cls.paper.arxiv if e.cls.paper else "-"
        plugin = "built in" if e.plugin == "advantage_zoo" else e.plugin
        needs = ", ".join(sorted(e.cls.needs)) or "-"
        table.add_row(e.key, needs, arxiv, plugin, ", ".join(sorted(e.cls.claims)) or "-")
    console.print(table)
    console.print(
        "Every estimator gets rewards, response_mask and group_ids; `needs` is what it needs besides.", style="dim"
    )
    for plugin, problem in found.problems.items():
        click.echo(f"Plugin {plugin}: {problem}", err=True)


@main.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option(
    "-e", "--estimators", multiple=True, metavar="NAME[,NAME]", help="Which; default: all that FILE can feed."
)
@click.option("--set", "settings", multiple=True, metavar="NAME.PARAM=VALUE", help="A parameter, as often as you like.")
@click.option(
    "--threshold", default=0.5, show_default=True, help="A response is successful if its reward is above this."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="PATH", help="Also write an HTML page with a heat map."
)
def compare(
    file: Path | None,
    estimators: tuple[str, ...],
    settings: tuple[str, ...],
    threshold: float,
    as_json: bool,
    report: Path | None,
) -> None:
    """Run estimators on identical rollouts and show what each one does.

    FILE is a Parquet file of rollouts (docs/rollouts.md); without one, those in the package are taken: a small model's
    on multi-step arithmetic with known step correctness.

    \b
    advantage-zoo compare
    advantage-zoo compare mine.parquet --estimators grpo,ep_grpo
    advantage-zoo compare --set ep_grpo.num_buckets=5 --set grpo.eps=1e-4
    advantage-zoo compare --json > compare.json
    """  # noqa: D301
    from advantage_zoo.compare import compare as run
    from advantage_zoo.progress import bar
    from advantage_zoo.rollouts import read_rollouts, shipped_rollouts
    from advantage_zoo.validation import validate

    source = file or shipped_rollouts()
    _check_before_the_work(report, threshold)
    rollouts = _or_fail(lambda: read_rollouts(source))
    instances = _chosen(rollouts, source, estimators, settings)
    with _notes():
        _or_fail(lambda: validate(rollouts.batch()))
        with bar("comparing", len(instances), show=len(instances) * len(rollouts) > 10_000) as advance:
            comparison = _or_fail(lambda: run(rollouts, instances, threshold=threshold, advance=advance))
    if as_json:
        _print_json({"file": str(source), **comparison.to_dict()})
    else:
        from advantage_zoo.compare.tables import print_comparison

        print_comparison(comparison, _console())
    if report is not None:
        from advantage_zoo.compare.report import write_report

        command = shlex.join(["advantage-zoo", *sys.argv[1:]])
        _or_fail(lambda: write_report(comparison, report, source=source, command=command))
        click.echo(f"Wrote {report}", err=True)


@main.command()
@click.option(
    "--model", required=True, metavar="DIR", help="Folder (or name) of the sampling policy and its tokenizer."
)
@click.option("--ref-model", metavar="DIR", help="Folder (or name) of the reference policy.")
@click.option("--prompts", required=True, type=click.Path(path_type=Path), help="Text, a prompt a line, or JSON lines.")
@click.option(
    "--reward", required=True, metavar="MODULE:FUNCTION", help="Or FILE.py:FUNCTION; called with prompt and text."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The Parquet file to write.")
@click.option("--group-size", default=8, show_default=True, help="Responses a prompt.")
@click.option("--max-new-tokens", default=256, show_default=True, help="Longest response.")
@click.option("--temperature", default=1.0, show_default=True, help="Divides the logits.")
@click.option("--top-p", default=1.0, show_default=True, help="Nucleus that is sampled from.")
@click.option("--seed", default=0, show_default=True, help="Of the sampling.")
@click.option("--batch-size", default=64, show_default=True, help="Responses sampled and scored at a time.")
def collect(model: str, prompts: Path, out: Path, **options: Any) -> None:
    """Sample rollouts from a transformers model and score them under policy and reference.

    Needs the extra: pip install "advantage-zoo[transformers]". Log-probabilities and entropies are those of
    softmax(logits / temperature), in nats.

    \b
    advantage-zoo collect --model policy/ --ref-model base/ --prompts p.txt --reward task.py:judge --out my.parquet
    advantage-zoo compare my.parquet
    """  # noqa: D301
    import importlib

    try:
        adapter = importlib.import_module("advantage_zoo_transformers")
    except ImportError as error:
        fail(f'collect needs PyTorch and transformers ({error}): pip install "advantage-zoo[cli,transformers]"')
    try:
        rollouts: Rollouts = adapter.collect_from_disk(model=model, prompts=prompts, out=out, **options)
    except (ImportError, ValueError, OSError) as error:
        fail(_sentence(error))
    reward = sum(rollouts.rewards) / len(rollouts)
    click.echo(
        f"Wrote {len(rollouts)} responses to {len(set(rollouts.groups))} prompts, mean reward {reward:.3f}, to {out}"
    )
    click.echo(f"Next: advantage-zoo compare {out}")


def _check_before_the_work(report: Path | None, threshold: float) -> None:
    if report is not None and not report.parent.is_dir():
        fail(f"--report {report}: there is no folder {report.parent}.")
    if report is not None and report.is_dir():
        fail(f"--report {report} is a folder; name a file, for instance {report / 'compare.html'}.")
    if not math.isfinite(threshold):
        fail(f"--threshold is {threshold}; expected a finite number.")


def _chosen(
    rollouts: "Rollouts", source: Path, estimators: tuple[str, ...], settings: tuple[str, ...]
) -> "list[tuple[str, Estimator]]":
    """The instances that --estimators and --set ask for."""
    from advantage_zoo.compare.choosing import choose, configure
    from advantage_zoo.spelling import split

    asked = [name for words in estimators for name in split(words)]
    if estimators and not asked:
        fail("--estimators names none; advantage-zoo list shows what there is.")
    names, left_out = _or_fail(lambda: choose(rollouts, str(source), asked))
    for name, fields in left_out.items():
        click.echo(f"Note: {name} is left out, as no rollout file holds {', '.join(fields)}.", err=True)
    return _or_fail(lambda: configure(names, settings))


def _or_fail(action: Callable[[], Any]) -> Any:
    """The action's result; what is the user's to mend becomes one sentence."""
    try:
        return action()
    except (ValueError, TypeError, LookupError, OSError) as error:
        fail(_sentence(error))


def _sentence(error: Exception) -> str:
    """The error on one line; str() of a LookupError may be a quoted repr."""
    return " ".join(str(error.args[0] if isinstance(error, LookupError) and error.args else error).split())


@contextmanager
def _notes() -> Generator[None]:
    """Warnings inside become a line each on standard error, without the place in the code."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught):
        click.echo(f"Note: {text}", err=True)


def _described(key: str, cls: type["Estimator"], plugin: str) -> dict[str, Any]:
    import dataclasses

    return {
        "name": key,
        "plugin": plugin,
        "needs": sorted(cls.needs),
        "paper": {"title": cls.paper.title, "arxiv": cls.paper.arxiv, "equations": cls.paper.equations}
        if cls.paper
        else None,
        "claims": sorted(cls.claims),
        "parameters": {
            f.name: {"default": None if f.default is dataclasses.MISSING else f.default, **f.metadata}
            for f in dataclasses.fields(cls)
        },
    }


def _console() -> Any:
    """Standard output: as wide as the terminal, or COLUMNS, or 80; without colour when piped."""
    from rich.console import Console

    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")  # a terminal that is not UTF-8 shows a ? rather than a traceback
    return Console(markup=False, highlight=False)


def _print_json(value: Any) -> None:
    import json

    click.echo(json.dumps(_finite(value), indent=2, allow_nan=False, default=str))


def _finite(value: Any) -> Any:
    """``value`` with None for every number that JSON has no word for (a file's metadata may hold some)."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in cast("list[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value

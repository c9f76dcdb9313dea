"""The command line: parses, calls, prints. Everything heavy is imported by the command that needs it."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

try:
    import click
except ImportError:  # installed without the extra
    sys.exit('The command line needs its extra: pip install "advantage-zoo[cli]"')

if TYPE_CHECKING:
    from advantage_zoo.estimator import Estimator
    from advantage_zoo.rollouts import Rollouts


def fail(message: str) -> NoReturn:
    """One sentence on standard error, exit status 2."""
    click.echo(f"Error: {message}", err=True)
    sys.exit(2)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="advantage-zoo")
def main() -> None:
    r"""Advantage estimators for reinforcement learning of language models, side by side.

    \b
    advantage-zoo list                              what there is
    advantage-zoo compare                           all of it, on the rollouts in the package
    advantage-zoo compare mine.parquet -e grpo,ep_grpo --set ep_grpo.num_buckets=5 --report out.html
    advantage-zoo collect --help                    make rollouts from models of your own
    """


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
    for column in ("name", "needs", "arXiv", "plugin", "promises"):
        table.add_column(column, no_wrap=column == "name")
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
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Also write an HTML page with a heat map."
)
def compare(
    file: Path | None,
    estimators: tuple[str, ...],
    settings: tuple[str, ...],
    threshold: float,
    as_json: bool,
    report: Path | None,
) -> None:
    r"""Run estimators on identical rollouts and show what each one does.

    FILE is a Parquet file of rollouts (docs/rollouts.md); without one, those in the package are taken: a small model's
    on multi-step arithmetic with known step correctness.

    \b
    advantage-zoo compare
    advantage-zoo compare mine.parquet --estimators grpo,ep_grpo
    advantage-zoo compare --set ep_grpo.num_buckets=5 --set grpo.eps=1e-4
    advantage-zoo compare --json > compare.json
    """
    from advantage_zoo.compare import compare as run
    from advantage_zoo.progress import bar
    from advantage_zoo.rollouts import read_rollouts, shipped_rollouts

    source = file or shipped_rollouts()
    if report is not None and not report.parent.is_dir():
        fail(f"--report {report}: there is no folder {report.parent}.")
    rollouts = _or_fail(lambda: read_rollouts(source))
    names = _chosen(rollouts, source, [n for words in estimators for n in words.split(",") if n.strip()])
    instances = _instances(names, settings)
    _validate(rollouts)
    with bar("comparing", len(instances)) as advance:
        comparison = _or_fail(lambda: run(rollouts, instances, threshold=threshold, advance=advance))
    if as_json:
        _print_json({"file": str(source), **comparison.to_dict()})
    else:
        from advantage_zoo.compare.tables import print_comparison

        print_comparison(comparison, _console())
    if report is not None:
        from advantage_zoo.compare.report import write_report

        command = " ".join(["advantage-zoo", *sys.argv[1:]])
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
    r"""Sample rollouts from a transformers model and score them under policy and reference.

    Needs the extra: pip install "advantage-zoo[transformers]". Log-probabilities and entropies are those of
    softmax(logits / temperature), in nats.

    \b
    advantage-zoo collect --model policy/ --ref-model base/ --prompts p.txt --reward task.py:judge --out my.parquet
    advantage-zoo compare my.parquet
    """
    import importlib

    try:
        adapter = importlib.import_module("advantage_zoo_transformers")
    except ImportError as error:
        fail(f'collect needs PyTorch and transformers ({error}): pip install "advantage-zoo[cli,transformers]"')
    rollouts = _or_fail(lambda: adapter.collect_from_disk(model=model, prompts=prompts, out=out, **options))
    reward = sum(rollouts.rewards) / len(rollouts)
    click.echo(
        f"Wrote {len(rollouts)} responses to {len(set(rollouts.groups))} prompts, mean reward {reward:.3f}, to {out}"
    )
    click.echo(f"Next: advantage-zoo compare {out}")


def _or_fail(action: Callable[[], Any]) -> Any:
    """The action's result; what is the user's to mend becomes one sentence."""
    try:
        return action()
    except ImportError as error:
        fail(f'{error}; pip install "advantage-zoo[cli]" brings what the command line needs.')
    except (ValueError, TypeError, LookupError, OSError) as error:
        # str() of a LookupError may be a quoted repr
        fail(" ".join(str(error.args[0] if isinstance(error, LookupError) and error.args else error).split()))


def _chosen(rollouts: "Rollouts", source: Path, asked: list[str]) -> list[str]:
    """The estimators to run, after checking that the file can feed them."""
    from advantage_zoo.compare.comparison import missing_inputs, never_in_a_file
    from advantage_zoo.registry import estimator, names

    wanted = [name.strip() for name in asked] or list(names())
    needs = {name: _or_fail(partial(estimator, name)).needs for name in wanted}
    if not asked:
        for name in [name for name in wanted if never_in_a_file(needs[name])]:
            click.echo(
                f"{name} is left out: no rollout file holds {', '.join(never_in_a_file(needs[name]))}.", err=True
            )
            wanted.remove(name)
    starved = [name for name in wanted if missing_inputs(rollouts, needs[name])]
    if starved:
        missing = sorted({field for name in starved for field in missing_inputs(rollouts, needs[name])})
        fed = ",".join(name for name in wanted if name not in starved)
        hint = f"; --estimators {fed} runs without" if fed else ""
        fail(f"{source} has no {', '.join(missing)}, which {', '.join(starved)} needs{hint}.")
    return wanted


def _instances(names: list[str], settings: tuple[str, ...]) -> list[tuple[str, "Estimator"]]:
    """(name, instance) pairs with their --set parameters."""
    from advantage_zoo.registry import estimator
    from advantage_zoo.suggestions import nearest

    params: dict[str, dict[str, Any]] = {name: {} for name in names}
    for setting in settings:
        target, equals, text = setting.partition("=")
        name, dot, key = target.rpartition(".")
        if not (equals and dot and name and key):
            fail(f"--set {setting}: expected NAME.PARAM=VALUE, for instance ep_grpo.num_buckets=5.")
        if name not in params:
            fail(f"--set {setting}: {name!r} is not compared{nearest(name, params)}; compared are {', '.join(params)}.")
        params[name][key] = _or_fail(partial(_parsed, estimator(name), key, text))
    return [(name, _or_fail(partial(estimator(name).create, **given))) for name, given in params.items()]


def _parsed(cls: type["Estimator"], key: str, text: str) -> Any:
    """``text`` as the type of the parameter's default; create() names unknown parameters and bad values."""
    default = getattr(cls, key, None)
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{cls.name}.{key} is {text!r}; expected true or false.")
        return text.lower() == "true"
    if isinstance(default, int | float):
        try:
            return type(default)(text)
        except ValueError:
            raise ValueError(f"{cls.name}.{key} is {text!r}; expected {type(default).__name__}.") from None
    return text


def _validate(rollouts: "Rollouts") -> None:
    import warnings

    from advantage_zoo.validation import validate

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _or_fail(lambda: validate(rollouts.batch()))
    for warning in caught:
        click.echo(f"Note: {warning.message}", err=True)


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
        "parameters": {f.name: {"default": f.default, **f.metadata} for f in dataclasses.fields(cls)},
    }


def _console() -> Any:
    """Standard output: as wide as the terminal, 100 columns when piped, so that no number is cut."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=100)


def _print_json(value: Any) -> None:
    import json

    click.echo(json.dumps(value, indent=2, allow_nan=False))

"""The command line: parses, calls, prints. Everything heavy is imported by the command that needs it."""

import math
import os
import shlex
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

try:
    import click
except ImportError:  # installed without the extra
    print('The command line needs its extra: pip install "advantage-zoo[cli]"', file=sys.stderr)
    raise SystemExit(2) from None

from advantage_zoo.terminal import fail, or_fail, print_json, standard_output, warnings_as_notes

COMMANDS = "advantage_zoo.commands"


class _Group(click.Group):
    """A group whose commands need not say what to do when a library of the extra is missing.

    Further commands are the entry points of group ``advantage_zoo.commands``, by which adapters offer theirs.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *(point.name for point in entry_points(group=COMMANDS))])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        return next((point.load() for point in entry_points(group=COMMANDS, name=cmd_name)), None)

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
    advantage-zoo check my_package:MyEstimator      whether yours keeps the invariants
    advantage-zoo compare                           all of it, on the rollouts in the package
    advantage-zoo compare mine.parquet -e grpo,ep_grpo --set ep_grpo.num_buckets=5 --report out.html
    advantage-zoo collect --help                    make rollouts from models of your own
    advantage-zoo score --help                      give rollouts the log-probabilities and entropies that they lack
    advantage-zoo doctor                            whether the training frameworks here will find it
    """  # noqa: D301 - click wants the character backspace, not a backslash


@main.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def list_command(as_json: bool) -> None:
    """List the estimators, what they need, where they come from, what they promise; the presets; the transforms.

    Plugins are packages with an entry point in group advantage_zoo; ADVANTAGE_ZOO_PLUGINS=none|a,b|-a chooses among
    them.
    """
    from advantage_zoo import listing
    from advantage_zoo.printing import print_table
    from advantage_zoo.registry import registry

    if as_json:
        print_json(listing.to_dict())
        return
    console = standard_output()
    for table, legend in listing.tables():
        print_table(console, table)
        console.print(legend + "\n", style="dim")
    for plugin, problem in registry().problems.items():
        click.echo(f"Plugin {plugin}: {problem}", err=True)


@main.command()
@click.argument("which", metavar="ESTIMATOR")
@click.option("-b", "--backends", metavar="NAME[,NAME]", help="Array libraries; default: all that are installed.")
@click.option("--law", "only", metavar="ID", multiple=True, help="Only this invariant, as often as you like.")
@click.option("--row-field", "row_fields", metavar="NAME", multiple=True, help="A field of its own, one a response.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def check(which: str, backends: str | None, only: tuple[str, ...], row_fields: tuple[str, ...], as_json: bool) -> None:
    """Hold an estimator to the invariants: those that every estimator keeps, and those that it claims.

    ESTIMATOR is package.module:Class, FILE.py:Class, or any spelling that compare takes. Needs hypothesis. The exit
    status is 1 if a law is broken; then the smallest batch that breaks it is shown, and where the law comes from. A
    field that only the estimator knows gets one number a token, or with --row-field one a response.

    \b
    advantage-zoo check my_package.my_module:MyEstimator
    advantage-zoo check ep_grpo --backends numpy,torch
    advantage-zoo check "mine.py:Mine(weight=2)"
    advantage-zoo check "grpo | whiten" --law PERMUTATION
    """  # noqa: D301
    try:
        from advantage_zoo import checking
    except ModuleNotFoundError as error:
        fail(f'check needs hypothesis ({error}): pip install "advantage-zoo[cli,testing]"')
    names = None if backends is None else [name.strip() for name in backends.split(",") if name.strip()]
    if names == []:
        fail("--backends names none; expected for instance numpy,torch.")
    outcomes = or_fail(lambda: checking.run(which, names, only, row_fields))
    if as_json:
        print_json(checking.to_dict(which, outcomes))
    else:
        checking.print_outcomes(which, outcomes, standard_output())
    if any(outcome.broken for outcome in outcomes):
        sys.exit(1)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def doctor(as_json: bool) -> None:
    """Look at the training frameworks that are installed here, and whether the adapters fit them.

    The exit status is 1 if something is wrong; the table says what, and what to do.
    """
    from advantage_zoo import doctor

    found = doctor.examine()
    if as_json:
        print_json(doctor.to_dict(found))
    else:
        doctor.print_findings(found, standard_output())
    if not doctor.healthy(found):
        sys.exit(1)


@main.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-e",
    "--estimators",
    multiple=True,
    metavar="NAME[,NAME]",
    help="Which, in any spelling; default: all that FILES can feed, no presets but with defects.",
)
@click.option("--set", "settings", multiple=True, metavar="NAME.PARAM=VALUE", help="A parameter, as often as you like.")
@click.option("--step", type=click.IntRange(0), help="The optimisation step, for parameters that follow a schedule.")
@click.option(
    "--threshold", default=0.5, show_default=True, help="A response is successful if its reward is above this."
)
@click.option(
    "--columns",
    multiple=True,
    metavar="NAME=COLUMN[,NAME=COLUMN]",
    help="What FILES call the columns of a rollout file; a reward may be a sum, reward=right+0.5*form.",
)
@click.option("--show", type=int, metavar="GROUP", help="Print this group's responses token by token, no tables.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="PATH", help="Also write an HTML page: charts, every response."
)
@click.option(
    "--memory",
    type=click.FloatRange(0, min_open=True),
    default=4.0,
    show_default=True,
    metavar="GB",
    help="For the tokens; rollout files that are larger are read a part at a time.",
)
@click.option("--jobs", type=click.IntRange(1), help="Processes for such files; default: one a core.")
@click.option("--engine", type=click.Choice(["processes", "ray"]), default="processes", show_default=True)
@click.option("--ray-address", metavar="HOST:PORT", help="A Ray cluster to join; default: one of its own, here.")
def compare(files: tuple[Path, ...], as_json: bool, report: Path | None, jobs: int | None, **given: Any) -> None:
    """Run estimators on identical rollouts and show what each one does.

    FILES are rollout files (docs/rollouts.md), folders of these, or a pattern; or one file or folder of what verl or
    TRL dumped, of JSON lines or other Parquet; or the name of rollouts in the package: arithmetic, a small model's on
    multi-step arithmetic with known step correctness, which is the default; defects, where formulas stumble, with the
    presets beside ours.

    \b
    advantage-zoo compare
    advantage-zoo compare mine.parquet --estimators grpo,ep_grpo
    advantage-zoo compare --set ep_grpo.num_buckets=5 --set grpo.eps=1e-4
    advantage-zoo compare -e "grpo, grpo | top_entropy(0.2) | whiten, mix(grpo, ep_grpo, 0.5)"
    advantage-zoo compare defects
    advantage-zoo compare rollout_data/ --report compare.html
    advantage-zoo compare mine.jsonl --columns prompt=question,text=answer,reward=score
    advantage-zoo compare --show 38 -e grpo,ep_grpo
    advantage-zoo compare --json > compare.json
    advantage-zoo compare "run/*.parquet" -e grpo,ep_grpo --memory 2 --engine ray
    """  # noqa: D301
    from advantage_zoo.compare.command import Options, cores, found, run

    paths, usual = or_fail(lambda: found(files))
    options = Options(
        **{**given, "estimators": given["estimators"] or usual}, report=report is not None, jobs=jobs or cores()
    )
    if options.show is not None and as_json:
        fail("--show and --json: choose one.")
    if options.ray_address is not None and options.engine != "ray":
        fail(f"--ray-address {options.ray_address} is of no use without --engine ray.")
    _check_before_the_work(report, options.threshold)
    with warnings_as_notes():
        comparison = or_fail(lambda: run(paths, options, lambda sentence: click.echo(f"Note: {sentence}", err=True)))
    if as_json:
        print_json({"file": ", ".join(map(str, paths)), **comparison.to_dict()})
    elif options.show is not None:
        from advantage_zoo.compare.show import show_group

        group = options.show
        or_fail(lambda: show_group(comparison, group, standard_output()))
    else:
        from advantage_zoo.compare.tables import print_comparison

        print_comparison(comparison, standard_output())
    if report is not None:
        from advantage_zoo.compare.report import write_report

        command = shlex.join(["advantage-zoo", *sys.argv[1:]])
        or_fail(lambda: write_report(comparison, report, sources=paths, command=command))
        click.echo(f"Wrote {report}", err=True)


def _check_before_the_work(report: Path | None, threshold: float) -> None:
    if report is not None and not report.parent.is_dir():
        fail(f"--report {report}: there is no folder {report.parent}.")
    if report is not None and report.is_dir():
        fail(f"--report {report} is a folder; name a file, for instance {report / 'compare.html'}.")
    if report is not None and not os.access(report if report.exists() else report.parent, os.W_OK):
        fail(f"--report {report} can't be written (Permission denied); name another file.")
    if not math.isfinite(threshold):
        fail(f"--threshold is {threshold}; expected a finite number.")

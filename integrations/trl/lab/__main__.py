"""`python -m lab`: train from the same start with each estimator, measure, draw. What is there is not made again."""

import ctypes
import json
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # everything lies on disk

import click
import pandas as pd
import torch
import transformers
import trl.trainer.utils

from advantage_zoo import make
from advantage_zoo.progress import bar
from advantage_zoo.rollouts import read_rollouts
from lab import failures, report
from lab.base import base_model, greedy_accuracy
from lab.tasks import TASKS, Sums, Task
from lab.training import Budget, beginning, train

STARTS = {"easy": 0.45, "hard": 0.15}
"""Accuracy of the base model when it is sampled."""

ESTIMATORS = ("grpo", "dr_grpo", "dapo", "rloo", "rl_zvp", "entropy_advantage", "erpo", "ep_grpo")

FORMS = (
    "ep_grpo@literal",
    "ep_grpo(progress_weight=0)",
    "ep_grpo(progress_weight=0.05)",
    "ep_grpo(gate_temperature=0, gate_mean_one=true)",
    "ep_grpo(progress_anchor=advantage)",
    "ep_grpo(progress_anchor=none)",
    "ep_grpo(progress_anchor=none, progress_floor=0.2)",
    "ep_grpo(progress_anchor=none, progress_floor=0.2, gate_temperature=1)",
    "ep_grpo(progress_anchor=none, progress_floor=0.2, gate_temperature=0, gate_mean_one=true)",
    "ep_grpo(progress_floor=0.2)",
    "ep_grpo(bucket_norm=scale)",
    "ep_grpo(progress_groups=zero_variance)",
    "ep_grpo(progress_coordinate=position)",
    "ep_grpo(reward_threshold=0)",
)
"""What the paper leaves open, and what it can do without."""

QUICK = Budget(steps=8, prompts=12, eval_every=4, eval_prompts=64, eval_samples=1, learning=600, slipping=60)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("lab-runs"), help="Folder of runs and results.")
@click.option("--quick", is_flag=True, help="One short task, two estimators, two seeds: whether everything works.")
@click.option("--task", "tasks", multiple=True, type=click.Choice([*TASKS]), help="Again for more; all if not given.")
@click.option("--start", "starts", multiple=True, type=click.Choice([*STARTS]), help="Likewise.")
@click.option("--estimator", "estimators", multiple=True, help="A spelling; again for more.")
@click.option("--forms", is_flag=True, help="The forms and ablations of ep_grpo as well.")
@click.option("--seeds", default=5, show_default=True, help="Runs of each.")
@click.option("--first-seed", default=0, show_default=True, help="Seeds count up from here.")
@click.option("--set", "numbers", multiple=True, metavar="NAME=VALUE", help="A number of the budget; again for more.")
def main(
    out: Path,
    quick: bool,
    tasks: Sequence[str],
    starts: Sequence[str],
    estimators: Sequence[str],
    forms: bool,
    seeds: int,
    first_seed: int,
    numbers: Sequence[str],
) -> None:
    """Train small models with many estimators from the same start, and say how they differ.

    Stopped and called again it goes on where it was: a run that is there is not made again.
    """
    _thrifty()
    _quiet()
    chosen: dict[str, Task] = {"sums": Sums(terms=5)} if quick else {name: TASKS[name] for name in tasks or TASKS}
    budget = _budget(QUICK if quick else Budget(), numbers)
    names = [*(estimators or (("grpo", "ep_grpo") if quick else ESTIMATORS)), *(FORMS if forms else ())]
    for name in names:
        make(name)  # a wrong spelling is better known now
    _same_settings(out, {"quick": quick, "torch": torch.__version__, **asdict(budget)})
    cells = list(product(chosen.values(), starts or (("easy",) if quick else STARTS)))
    bases = {
        (task.name, start): base_model(
            task, STARTS[start], out / "bases", most=budget.learning, slipping=budget.slipping
        )
        for task, start in cells
    }
    chosen_seeds = range(2) if quick else range(first_seed, first_seed + seeds)
    runs = [(task, start, name, seed) for seed, (task, start), name in product(chosen_seeds, cells, names)]
    # a seed of everything before the next, so that what is there at any time can be compared
    left = [run for run in runs if not _file(out, *run).exists()]
    firsts = {
        (task.name, start): beginning(task, bases[task.name, start], budget)
        for task, start in dict.fromkeys(run[:2] for run in left)
    }
    with bar(f"training, {len(left)} runs", len(left) * budget.steps) as advance:
        for task, start, name, seed in left:
            cell, file = (task.name, start), _file(out, task, start, name, seed)
            compared = name == names[0] and seed == chosen_seeds[0]
            train(task, bases[cell], firsts[cell], name, seed, budget, file, rollouts=compared, advance=advance)
    _conclude(out, cells, bases, names, chosen_seeds[0], budget)
    click.echo(f"{out / 'index.md'}: figures and tables of {len(runs)} runs, {len(left)} of them new.")


def _budget(budget: Budget, numbers: Sequence[str]) -> Budget:
    """With the numbers that were set, each ``name=value``."""
    known = asdict(budget)
    for number in numbers:
        name, _, value = number.partition("=")
        if name not in known:
            raise click.UsageError(f"--set {number}: {name} is not of the budget; choose of {', '.join(known)}.")
        try:
            known[name] = type(known[name])(value)
        except ValueError as error:
            raise click.UsageError(f"--set {number}: {error}; give a number.") from error
    return Budget(**known)


def _file(out: Path, task: Task, start: str, name: str, seed: int) -> Path:
    return out / "runs" / task.name / start / name / f"{seed}.csv"


def _same_settings(out: Path, settings: dict[str, object]) -> None:
    """Refuse to mix runs of different settings in one folder."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / "settings.json"
    there = json.loads(file.read_text()) if file.exists() else settings
    for key, value in settings.items():
        if there.get(key) != value:
            raise click.UsageError(
                f"{out} holds runs with {key} = {there.get(key)}, and now it is {value}; choose another --out."
            )
    file.write_text(json.dumps(settings, indent=1) + "\n")


def _conclude(
    out: Path,
    cells: list[tuple[Task, str]],
    bases: dict[tuple[str, str], Path],
    names: list[str],
    seed: int,
    budget: Budget,
) -> None:
    """Tables and the page, of all runs that are there; figures of the estimators that were asked for."""
    points = report.read(out / "runs")
    shown = points[points["estimator"].isin(names)]
    for y in ("accuracy", "entropy", "length"):
        report.curves(shown, out / f"{y}.svg", y=y)
    results = report.results(points)
    report.differences(results[results["estimator"].isin(names)], out / "ahead.svg")
    tables = {
        "Ahead of GRPO at equal tokens": report.overview(results),
        "Results": results,
        "Base models": _bases(cells, bases, points, budget),
        "Failure 1: a changed token where the entropy is high, and where it is low": _granularity(cells, bases, budget),
        "Failures 2 and 3: polarity of steps, groups without signal": _polarity(out, cells, names, seed),
        "Whether the log-ratio is higher at right steps than at wrong ones": _knowledge(out, cells, names[0], seed),
    }
    tables["Results"].to_csv(out / "results.csv", index=False)
    points.to_parquet(out / "points.parquet")
    report.page(
        out, json.loads((out / "settings.json").read_text()), tables, " ".join(["python -m lab", *sys.argv[1:]])
    )


def _bases(
    cells: list[tuple[Task, str]], bases: dict[tuple[str, str], Path], points: pd.DataFrame, budget: Budget
) -> pd.DataFrame:
    """Whether they have the skill, and how often they slip."""
    before = points[points["step"] == 0].groupby(report.CELL)["accuracy"].first()
    rows: list[dict[str, object]] = []
    for task, start in cells:
        model = transformers.AutoModelForCausalLM.from_pretrained(bases[task.name, start])
        tokenizer = transformers.AutoTokenizer.from_pretrained(bases[task.name, start])
        greedy = greedy_accuracy(model, tokenizer, task, budget.eval_prompts)
        rows.append({"task": task.name, "start": start, "accuracy": before[task.name, start], "greedy": greedy})
    return pd.DataFrame(rows)


def _granularity(cells: list[tuple[Task, str]], bases: dict[tuple[str, str], Path], budget: Budget) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    with bar("changing tokens", len(cells)) as advance:
        for task, start in cells:
            base = bases[task.name, start]
            model = transformers.AutoModelForCausalLM.from_pretrained(base)
            tokenizer = transformers.AutoTokenizer.from_pretrained(base)
            for hot, how in ((False, "another token"), (True, "drawn again, temperature 2")):
                found = failures.granularity(model, tokenizer, task, budget.eval_prompts, hot=hot)
                row = {"accuracy": found.before, "after, high": found.high, "after, low": found.low}
                rows.append({"task": task.name, "start": start, "change": how, **row, "ratio": found.ratio})
            advance(1)
    return pd.DataFrame(rows)


def _polarity(out: Path, cells: list[tuple[Task, str]], names: list[str], seed: int) -> pd.DataFrame:
    """Each estimator on the same rollouts: those of the policy at the end of the first one's run."""
    rows: list[dict[str, object]] = []
    for task, start in cells:
        rollouts = read_rollouts(_file(out, task, start, names[0], seed).with_suffix(".parquet"))
        for name, found in failures.polarity(rollouts, names).items():
            shares = {
                "right steps of failed answers punished": found.punished,
                "wrong steps of right answers rewarded": found.rewarded,
                "groups without signal": found.dead,
            }
            counts = {what: f"{share.count} of {share.total}" for what, share in shares.items()}
            rows.append({"task": task.name, "start": start, "estimator": name, **counts})
    return pd.DataFrame(rows)


def _knowledge(out: Path, cells: list[tuple[Task, str]], name: str, seed: int) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    for task, start in cells:
        rollouts = read_rollouts(_file(out, task, start, name, seed).with_suffix(".parquet"))
        chances = {"failed answers": False, "right answers": True}
        found = {where: failures.knowledge(rollouts, right=right) for where, right in chances.items()}
        rows.append({"task": task.name, "start": start, "policy": name, **found})
    return pd.DataFrame(rows)


def _thrifty() -> None:
    """What makes a step of a model this small cheaper, and leaves the numbers as they are."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE = 64  # columns of a buffer for logits; TRL's are 32,768
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc's: keep freed memory, so that a tensor's pages are not fetched anew each time
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD


def _quiet() -> None:
    """No bars and no advice but our own."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*is deprecated and will be removed in v6", category=FutureWarning)


if __name__ == "__main__":
    main()

"""From the curves of all runs to figures, tables and a page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

CELL = ["task", "start"]
BASELINE = "grpo"


def read(folder: Path) -> pd.DataFrame:
    """All points of all runs under ``folder``: the runs' CSV files are ``task/start/estimator/seed.csv``."""
    parts: list[pd.DataFrame] = []
    for file in sorted(folder.glob("*/*/*/*.csv")):
        task, start, estimator, seed = file.relative_to(folder).with_suffix("").parts
        parts.append(pd.read_csv(file).assign(task=task, start=start, estimator=estimator, seed=int(seed)))
    return pd.concat(parts, ignore_index=True)


def interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval over seeds (Student's t); NaN for one seed."""
    values = np.asarray(values, dtype=float)
    count = len(values)
    half = stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count) if count > 1 else float("nan")
    return float(values.mean()), float(half)


def curves(points: pd.DataFrame, file: Path, x: str = "tokens", y: str = "accuracy") -> None:
    """``y`` over ``x``, a panel a task and start, a line an estimator, with the 95 % interval over seeds as a band."""
    tasks, starts = points["task"].unique(), points["start"].unique()
    size = (3.4 * len(tasks), 2.8 * len(starts))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(starts), len(tasks), squeeze=False, sharey=y == "accuracy")
    names = sorted(points["estimator"].unique())
    colours = dict(zip(names, mpl.colormaps["tab20" if len(names) > 10 else "tab10"].colors * 2, strict=False))
    lines = {}  # an estimator has one colour, whichever panels it is in
    for (i, start), (j, task) in ((a, b) for a in enumerate(starts) for b in enumerate(tasks)):
        panel = axes[i][j]
        here = points[(points["task"] == task) & (points["start"] == start)]
        for estimator, runs in here.groupby("estimator", sort=True):
            steps = runs.groupby("step")
            middle = steps[y].apply(lambda v: interval(v)[0])
            half = steps[y].apply(lambda v: interval(v)[1]).fillna(0.0)
            along = steps[x].mean() if x != "step" else middle.index
            (lines[estimator],) = panel.plot(along, middle, color=colours[estimator], linewidth=1.4)
            panel.fill_between(along, middle - half, middle + half, color=colours[estimator], alpha=0.18, linewidth=0)
        panel.set_title(f"{task}, {start} start", fontsize=9)
        panel.set_xlabel("response tokens sampled" if x == "tokens" else x, fontsize=8)
        panel.tick_params(labelsize=7)
        panel.locator_params(axis="x", nbins=5)
        panel.grid(alpha=0.25, linewidth=0.5)
    for row in axes:
        row[0].set_ylabel(y, fontsize=8)
    figure.legend(lines.values(), lines, loc="outside lower left", fontsize=7, frameon=False)
    _save(figure, file)


def differences(table: pd.DataFrame, file: Path) -> None:
    """How far each estimator is ahead of GRPO at equal tokens, a panel a task and start, with its interval."""
    others = table[table["estimator"] != BASELINE]
    names, cells = sorted(others["estimator"].unique(), reverse=True), list(others.groupby(CELL, sort=False))
    figure = Figure(figsize=(3 + 1.3 * max(1, len(cells)), 1 + 0.22 * len(names)), layout="constrained")
    panels = figure.subplots(1, max(1, len(cells)), sharey=True, squeeze=False)[0]
    for panel, ((task, start), cell) in zip(panels, cells, strict=False):
        rows = cell.set_index("estimator").reindex(names)
        middle, half = rows["ahead of grpo, equal tokens"], rows["ahead ±"]
        for y, (m, h) in enumerate(zip(middle, half, strict=True)):
            colour = "tab:blue" if m > h else "tab:red" if -m > h else "tab:grey"
            panel.errorbar(m, y, xerr=np.nan_to_num(h), fmt="o", color=colour, markersize=3, linewidth=1)
        panel.axvline(0, color="black", linewidth=0.6)
        panel.set_xscale("symlog", linthresh=0.02)  # from a hundredth to a collapse
        panel.set_xlim(-1, 0.1)
        panel.set_xticks([-0.5, -0.1, -0.02, 0.02], ["-0.5", "-0.1", "-0.02", "0.02"], rotation=60)
        panel.set_title(f"{task},\n{start} start", fontsize=8)
        panel.set_yticks(range(len(names)), names, fontsize=7)
        panel.tick_params(axis="x", labelsize=6)
        panel.grid(alpha=0.25, linewidth=0.5)
    figure.supxlabel("accuracy ahead of GRPO at equal tokens; grey where the interval holds 0", fontsize=8)
    _save(figure, file)


def at_tokens(run: pd.DataFrame, tokens: float) -> float:
    """Accuracy of one run where it had sampled ``tokens``, between its evaluations."""
    run = run.sort_values("tokens")
    return float(np.interp(tokens, run["tokens"], run["accuracy"]))


def reaches(run: pd.DataFrame, accuracy: float) -> float:
    """Step at which one run first has ``accuracy``, between its evaluations; NaN if it does not."""
    run = run.sort_values("step")
    above = np.flatnonzero(run["accuracy"].to_numpy() >= accuracy)
    if not len(above):
        return float("nan")
    last = run.iloc[max(above[0] - 1, 0) : above[0] + 1]
    return float(np.interp(accuracy, last["accuracy"], last["step"]))


def results(points: pd.DataFrame) -> pd.DataFrame:
    """One row a task, start and estimator: final accuracy, difference to GRPO at equal tokens, steps to its end."""
    rows: list[dict[str, object]] = []
    for (task, start), cell in points.groupby(CELL, sort=False):
        runs = dict(iter(cell.groupby(["estimator", "seed"])))
        base = {seed: run for (estimator, seed), run in runs.items() if estimator == BASELINE}
        for estimator, own in cell.groupby("estimator", sort=True):
            seeds = sorted(own["seed"].unique())
            last = own[own["step"] == own["step"].max()]
            row: dict[str, object] = {"task": task, "start": start, "estimator": estimator, "seeds": len(seeds)}
            row["accuracy"], row["accuracy ±"] = interval(last["accuracy"])
            paired = [seed for seed in seeds if seed in base]
            compared = paired if estimator != BASELINE else []
            ahead = [_ahead(runs[estimator, seed], base[seed]) for seed in compared] or [float("nan")]
            row["ahead of grpo, equal tokens"], row["ahead ±"] = interval(ahead)
            ends = [reaches(runs[estimator, s], base[s]["accuracy"].iloc[-1]) for s in paired]
            row["steps to grpo's end"] = float(np.nanmean(ends)) if np.isfinite(ends).any() else float("nan")
            row["reached by"] = int(np.isfinite(ends).sum())
            row["entropy"] = last["entropy"].mean()
            row["length"] = last["length"].mean()
            row["zero-variance groups"] = own["zero_variance"].mean()
            row["zero-variance steps"] = own["dead_steps"].mean()
            row["tokens without signal"] = own["without_signal"].mean()
            row["s a step"] = own["seconds"].mean()
            rows.append(row)
    return pd.DataFrame(rows)


def overview(table: pd.DataFrame) -> pd.DataFrame:
    """One row an estimator, one column a task and start: how far it is ahead of GRPO, bold where 0 is outside."""

    def said(middle: float, half: float) -> str:
        if np.isnan(middle):
            return ""
        text = f"{middle:+.3f} ± {half:.3f}" if np.isfinite(half) else f"{middle:+.3f}"
        return f"**{text}**" if abs(middle) > half else text

    rows: dict[str, dict[str, str]] = {}
    others = table[table["estimator"] != BASELINE]
    columns = ("task", "start", "estimator", "ahead of grpo, equal tokens", "ahead ±")
    for task, start, estimator, middle, half in others[[*columns]].itertuples(index=False, name=None):
        rows.setdefault(estimator, {})[f"{task}, {start}"] = said(middle, half)
    return pd.DataFrame([{"estimator": estimator, **cells} for estimator, cells in rows.items()])


def _ahead(run: pd.DataFrame, base: pd.DataFrame) -> float:
    tokens = min(run["tokens"].max(), base["tokens"].max())
    return at_tokens(run, tokens) - at_tokens(base, tokens)


def _save(figure: Figure, file: Path) -> None:
    with mpl.rc_context({"svg.hashsalt": "advantage-zoo"}):  # the same figure, the same file
        figure.savefig(file, metadata={"Date": None})


def markdown(table: pd.DataFrame) -> str:
    """The table as Markdown, numbers to three decimals, nothing where there is none."""

    def cell(x: object) -> str:
        if isinstance(x, float):
            return "" if np.isnan(x) else f"{x:.3f}"
        return "" if x is None else str(x)

    lines = [list(map(str, table.columns)), ["---"] * len(table.columns)]
    lines += [[cell(x) for x in row] for row in table.itertuples(index=False, name=None)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def page(folder: Path, settings: Mapping[str, object], tables: Mapping[str, pd.DataFrame], command: str) -> None:
    """``index.md``: the figures, the tables, and what they were made with."""
    parts = [f"# Laboratory\n\n`{command}`\n"]
    parts.append("\n".join(f"- {key}: {value}" for key, value in settings.items()) + "\n")
    parts.append("Bands and ± are 95 % intervals over seeds (Student's t).\n")
    parts += [f"![{name}]({name}.svg)\n" for name in ("accuracy", "ahead", "entropy", "length")]
    parts += [f"## {title}\n\n{markdown(table)}" for title, table in tables.items()]
    (folder / "index.md").write_text("\n".join(parts))

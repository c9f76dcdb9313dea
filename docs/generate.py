"""Writes the generated parts of the pages: `python docs/generate.py`, and `--check` to be told what is stale.

A generated part stands between ``<!-- generated: KIND [NAME] -->`` and ``<!-- end -->``. The kinds are the functions in
``KINDS``; NAME is an estimator's or a transform's, or what the kind says.
"""

import argparse
import dataclasses
import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

os.environ["ADVANTAGE_ZOO_PLUGINS"] = "none"  # the pages describe the built-in estimators, whatever else is installed

import numpy as np

import advantage_zoo as az

DOCS = Path(__file__).resolve().parent
BLOCK = re.compile(r"(<!-- generated: (\w+)(?: ([\w,/]+))? -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def parameters(name: str) -> str:
    """Table of an estimator's or a transform's parameters."""
    known = {**az.transforms.TRANSFORMS, "mix": az.transforms.Mix}
    rows = [
        [f"`{f.name}`", _default(f), _range(f), f.metadata.get("doc", "")]
        for f in dataclasses.fields(known[name] if name in known else az.estimator(name))
    ]
    return _table(["parameter", "default", "range", "meaning"], rows)


def metadata(name: str) -> str:
    """Table of what an estimator says about itself."""
    cls = az.estimator(name)
    paper = cls.paper
    rows = [
        ["name", f"`{name}`"],
        ["class", f"`advantage_zoo.estimators.{cls.__name__}`"],
        ["needs", _words(cls.needs) or "nothing beyond rewards, mask and groups"],
        *([["uses, where there", _words(cls.uses)]] if cls.uses else []),
        ["claims", _words(cls.claims) or "nothing beyond what every estimator keeps"],
    ]
    if paper:
        equations = f": {paper.equations}" if paper.equations else ""
        rows.append(["paper", f"{paper.title}, [arXiv:{paper.arxiv}]({paper.url}){equations}"])
    return _table(["", ""], rows)


def zoo(folder: str) -> str:
    """Table of all built-in estimators: their source, needs and ways; ``folder`` holds their pages."""
    rows: list[list[str]] = []
    for name in az.names():
        cls = az.estimator(name)
        paper = f"[{cls.paper.arxiv}]({cls.paper.url})" if cls.paper else ""
        needs = ", ".join(filter(None, [_words(cls.needs), *(f"(`{used}`)" for used in sorted(cls.uses))]))
        level = "sequence" if "UNIFORM" in cls.claims else "token"
        frameworks = [preset.partition("@")[2] for preset in az.presets() if preset.startswith(f"{name}@")]
        row = [f"[`{name}`]({folder}{name}.md)", paper, needs, level, _dead_groups(name), _links(frameworks, folder)]
        rows.append([*row, ", ".join(sorted(cls.claims)).lower()])
    head = ["estimator", "arXiv", "needs (uses)", "level", "equal rewards", "presets", "claims, at the defaults"]
    return _table(head, rows)


def estimators(_: str) -> str:
    """Table of what each built-in estimator computes."""
    return _table(["name", "what it computes"], [[f"[`{n}`]({n}.md)", _summary(az.estimator(n))] for n in az.names()])


def _dead_groups(name: str) -> str:
    """What a group of equal rewards gets beside a mixed one, all wrong and all right; measured."""
    rng = np.random.default_rng(0)
    shape = (12, 5)
    logprobs = -rng.random(shape)
    batch = az.RolloutBatch(
        rewards=np.array([0.0] * 4 + [1.0] * 4 + [1.0, 0.0, 0.0, 1.0]),
        response_mask=np.arange(5) < rng.integers(1, 6, 12)[:, None],
        group_ids=np.repeat(np.arange(3), 4),
        logprobs=logprobs,
        ref_logprobs=logprobs + rng.normal(size=shape) / 10,
        entropies=rng.random(shape),
        values=rng.random(shape),
        reward_components=np.array([0.0] * 4 + [1.0] * 4 + [1.0, 0.0, 0.0, 1.0])[:, None],
        baseline_rewards=np.full(12, 0.5),
        extras={"sum_pi_squared": rng.random(shape)},
    )
    values = az.compute_advantages(batch, name).values
    return "a signal" if values[:8].any() else "0"


def _links(frameworks: list[str], folder: str) -> str:
    to = "docs/presets/" if folder.startswith("docs") else "../presets/"
    pages = {framework: DOCS / "presets" / f"{framework}.md" for framework in frameworks}
    return ", ".join(f"[{f}]({to}{f}.md)" if page.exists() else f for f, page in pages.items())


def presets(framework: str) -> str:
    """Table of a framework's presets: what they compute, and how they differ from ours."""
    classes = [az.estimator(name) for name in az.presets() if name.endswith(f"@{framework}")]
    rows = [[f"`{cls.name}`", _summary(cls), cls.differs, f"`{cls.source}`"] for cls in classes]
    return _table(["preset", "what it computes", "how it differs from ours, and what that does", "source"], rows)


def invariants(kind: str) -> str:
    """Table of the laws that every estimator keeps (``always``), or may claim (``claimable``), and their sources."""
    from advantage_zoo.testing import INVARIANTS

    laws = [law for law in INVARIANTS.values() if law.always == (kind == "always")]
    issue = re.compile(r"([\w-]+/[\w-]+)#(\d+)")
    rows = [
        [f"`{law.id}`", law.law, issue.sub(r"[\1#\2](https://github.com/\1/issues/\2)", law.source)] for law in laws
    ]
    return _table(["id", "law", "where its absence has hurt, or what it follows from"], rows)


def claims(_: str) -> str:
    """Table of which built-in estimator claims which invariant."""
    classes = {name: az.estimator(name).claims for name in az.names()}
    ids = sorted({claim for claimed in classes.values() for claim in claimed})
    rows = [[f"`{claim}`", ", ".join(f"`{n}`" for n, claimed in classes.items() if claim in claimed)] for claim in ids]
    return _table(["invariant", "claimed by"], rows)


def comparison(names: str) -> str:
    """Main numbers of `advantage-zoo compare` on the rollouts in the package, for some or all that these can feed."""
    from advantage_zoo.compare import compare
    from advantage_zoo.compare.choosing import choose
    from advantage_zoo.compare.tables import percent
    from advantage_zoo.rollouts import read_rollouts, shipped_rollouts

    rollouts = read_rollouts(shipped_rollouts())
    chosen, _ = choose(rollouts.fields, "the shipped file", names.split(",") if names else ())
    results = compare(rollouts, chosen).results
    first = results[0].metrics
    rows: list[list[str]] = []
    for result in results:
        m = result.metrics
        shares = (m.groups_without_signal, m.high_entropy_share, m.right_steps_punished, m.wrong_steps_rewarded)
        rows.append([f"`{result.key}`", *map(percent, (*shares, m.blame_on_wrong_steps))])
    head = [
        "",
        "prompts without signal",
        f"weight on the 20 % of tokens with the highest entropy (all alike: {percent(first.high_entropy_tokens)})",
        f"right steps in failed answers, punished (of {first.right_steps_punished.total:,})",
        f"wrong steps in right answers, rewarded (of {first.wrong_steps_rewarded.total:,})",
        f"blame on wrong steps (all alike: {percent(first.wrong_step_tokens)})",
    ]
    return _table(head, rows)


def defects(_: str) -> str:
    """The largest advantages on the rollouts called defects, of ours and of the presets."""
    from advantage_zoo.compare import compare
    from advantage_zoo.compare.tables import number
    from advantage_zoo.rollouts import SHIPPED, read_rollouts, shipped_rollouts
    from advantage_zoo.spelling import split

    names = split(SHIPPED["defects"])
    rows = [
        [f"`{r.key}`", *map(number, (r.metrics.largest, r.metrics.largest_equal, r.metrics.largest_alone))]
        for r in compare(read_rollouts(shipped_rollouts("defects")), names).results
    ]
    return _table(["largest abs(A)", "anywhere", "in groups of equal rewards", "in groups of one"], rows)


KINDS: dict[str, Callable[[str], str]] = {
    f.__name__: f for f in (parameters, metadata, zoo, estimators, presets, invariants, claims, comparison, defects)
}


def render(text: str) -> str:
    """A page with its generated parts made anew."""

    def block(found: re.Match[str]) -> str:
        opening, kind, name, _, end = found.groups()
        if kind not in KINDS:
            raise ValueError(f"{opening.strip()} names no kind; there are {', '.join(KINDS)}.")
        return f"{opening}\n{KINDS[kind](name or '')}\n\n{end}"

    return BLOCK.sub(block, text)


def pages() -> list[Path]:
    """Every page of the documentation, and the README."""
    return [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]


def main() -> None:
    """Write, or with ``--check`` only say what is stale."""
    parser = argparse.ArgumentParser(description="Write the generated parts of the documentation's pages.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is stale")
    check = parser.parse_args().check
    stale: list[Path] = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        fresh = render(text)
        if fresh != text:
            stale.append(page)
            if not check:
                page.write_text(fresh, encoding="utf-8")
    names = ", ".join(str(page.relative_to(DOCS.parent)) for page in stale)
    if check and stale:
        sys.exit(f"Stale: {names}. Run `python docs/generate.py` and commit what it writes.")
    print(f"Wrote {names}." if stale else "Nothing is stale.")


def _default(f: "dataclasses.Field[object]") -> str:
    return "required" if f.default is dataclasses.MISSING else f"`{f.default!r}`"


def _range(f: "dataclasses.Field[object]") -> str:
    limits = f.metadata
    if "choices" in limits:
        return ", ".join(f"`{choice}`" for choice in limits["choices"])
    if isinstance(f.default, bool):
        return "`True`, `False`"
    low = f"≥ {limits['ge']}" if "ge" in limits else f"> {limits['gt']}" if "gt" in limits else ""
    high = f"≤ {limits['le']}" if "le" in limits else ""
    if f.metadata.get("kind") is az.Estimator:
        return "an estimator"
    return " and ".join(filter(None, (low, high))) or "any finite"


def _summary(cls: type[az.Estimator]) -> str:
    return " ".join(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].split()).replace("``", "`")


def _words(words: frozenset[str]) -> str:
    return ", ".join(f"`{word}`" for word in sorted(words))


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()

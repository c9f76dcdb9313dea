"""What the README, the pages and the docstrings show is run; what the pages generate is fresh.

A fenced ```python block with prompts is a doctest; one without is run as it stands. The blocks of a page share one
namespace, from top to bottom, and run in an empty folder. A block that cannot run here has a comment on the line above,
`<!-- not run: why -->`; one that imports a library which is not installed is skipped, with the rest of its page.
"""

import doctest
import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"(?P<above>[^\n]*\n)?(?P<indent>[ ]*)```python\n(?P<code>.*?)\n[ ]*```", re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: \S.* -->")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
OPTIONAL = {"jax", "pyarrow", "torch", "transformers", "trl", "verl", "openrlhf", "click", "rich", "jinja2"}

PAGES = [
    p for p in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))) if p.exists()
]
MODULES = [
    path
    for folder in (ROOT / "advantage_zoo", ROOT / "adapters")
    for path in sorted(folder.rglob("*.py"))
    if ">>>" in path.read_text(encoding="utf-8")
]


def named(path):
    return str(path.relative_to(ROOT))


def blocks(text):
    """Line number and code of each fenced python block that is to be run."""
    for found in FENCE.finditer(text):
        if NOT_RUN.search(found["above"] or ""):
            continue
        indent = len(found["indent"])
        code = "\n".join(line[indent:] for line in found["code"].split("\n"))
        yield text.count("\n", 0, found.start("code")), code + "\n"


def run_page(text, name):
    """Run a page's blocks; what went wrong, a string for each block, and how many examples ran."""
    problems, count, scope = [], 0, {"__name__": "__main__"}
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    for line, code in blocks(text):
        if ">>>" not in code:
            exec(compile("\n" * line + code, name, "exec"), scope)
            count += 1
            continue
        # A name of its own for each block: doctest finds the source of a function defined earlier by its test's name.
        test = doctest.DocTestParser().get_doctest(code, scope, f"{name}:{line + 1}", name, line)
        said = []
        runner.run(test, out=said.append, clear_globs=False)
        scope = test.globs  # a doctest works on a copy
        problems += ["".join(said)] if said else []
        count += len(test.examples)
    return problems, count


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch, tmp_path):
    monkeypatch.setenv("ADVANTAGE_ZOO_PLUGINS", "none")
    monkeypatch.chdir(tmp_path)


def imports_of(text):
    code = "\n".join(code for _, code in blocks(text))
    return set(re.findall(r"^(?:>>> |\.\.\. )?\s*(?:import|from) (\w+)", code, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_page_runs(page):
    text = page.read_text(encoding="utf-8")
    for library in sorted(imports_of(text) & OPTIONAL):
        pytest.importorskip(library)
    problems, _ = run_page(text, named(page))
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_docstrings_run(path):
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    parts = parts[1:] if parts[0] == "adapters" else parts
    try:
        module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    except ModuleNotFoundError as missing:
        if missing.name and missing.name.partition(".")[0] in OPTIONAL:
            pytest.skip(f"{missing.name} is not installed")
        raise
    result = doctest.testmod(module, optionflags=FLAGS)
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize(
    ("text", "fails"),
    [
        ("```python\n>>> 1 + 1\n2\n```", False),
        ("```python\n>>> 1 + 1\n3\n```", True),
        ("```python\nx = 2\n```\n\n```python\n>>> x\n2\n```", False),
        ("1. In a list\n\n    ```python\n    >>> [1,\n    ...  2]\n    [1, 2]\n    ```", False),
        ("```sh\n>>> 1\n3\n```", False),
        ("<!-- not run: needs a GPU -->\n```python\n>>> 1\n3\n```", False),
        ("<!-- not run: -->\n```python\n>>> 1\n3\n```", True),
    ],
)
def test_the_runner_can_fail(text, fails):
    problems, _ = run_page(text, "page")
    assert bool(problems) == fails


def test_a_block_without_prompts_raises_its_error():
    with pytest.raises(ZeroDivisionError):
        run_page("```python\n1 / 0\n```", "page")


@pytest.fixture
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_fresh():
    done = subprocess.run([sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_stale_part_is_noticed(generate):
    page = ROOT / "docs/estimators/grpo.md"
    text = page.read_text(encoding="utf-8")
    assert generate.render(text) == text
    assert generate.render(text.replace("`1e-06`", "`1e-05`", 1)) == text
    with pytest.raises(ValueError, match="names no kind; there are parameters"):
        generate.render("<!-- generated: nonsense -->\n<!-- end -->")


def test_every_generated_part_is_closed(generate):
    for page in generate.pages():
        text = page.read_text(encoding="utf-8")
        assert text.count("<!-- generated:") == len(generate.BLOCK.findall(text)), page


def test_every_builtin_estimator_has_a_page_that_is_in_the_nav(generate):
    import advantage_zoo as az

    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for name in az.names():
        page = ROOT / "docs/estimators" / f"{name}.md"
        assert page.exists(), f"Write docs/estimators/{name}.md (copy another page; the skeleton is the same)."
        text = page.read_text(encoding="utf-8")
        assert f"<!-- generated: parameters {name} -->" in text
        assert f"<!-- generated: metadata {name} -->" in text
        assert f"estimators/{name}.md" in nav


def test_every_law_that_is_checked_is_described():
    from advantage_zoo.testing import INVARIANTS

    text = (ROOT / "docs/invariants.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE))
    assert described == set(INVARIANTS)


def test_every_page_of_the_nav_exists_and_every_page_is_in_it():
    nav = set(re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert nav == {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}

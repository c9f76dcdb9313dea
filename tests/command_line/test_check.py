"""`check`: which law is broken, by which batch, and what can't be checked."""

import json
import re

import pytest
from command_line.calls import refused, run

MINE = """
from dataclasses import dataclass
from typing import ClassVar
from advantage_zoo import Advantages, Estimator

@dataclass(frozen=True)
class Mine(Estimator):
    name: ClassVar[str] = "mine"
    claims: ClassVar[frozenset[str]] = frozenset({"SHIFT", "SCALE_EQUIVARIANT"})

    def compute(self, batch):
        return Advantages(batch.to_tokens(batch.rewards))

NOT_ONE = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine_of_the_test.py").write_text(MINE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "mine_of_the_test:Mine"


def test_check_names_the_law_the_batch_and_the_source(mine):
    result = run("check", mine, "--backends", "numpy", "--law", "SHIFT", "--law", "SCALE_EQUIVARIANT")
    assert result.exit_code == 1
    assert re.search(r"SHIFT +broken", result.stdout)
    assert re.search(r"SCALE_EQUIVARIANT +holds", result.stdout)
    for words in ("Smallest batch: rewards=", "(seed ", "Source: ", "1 of 2 checks are broken."):
        assert words in result.stdout
    out = json.loads(run("check", "mine_of_the_test.py:Mine", "-b", "numpy", "--law", "SHIFT", "--json").stdout)
    assert out["holds"] is False
    assert [row["law"] for row in out["laws"]] == ["SHIFT"]


def test_check_of_what_holds(mine):
    result = run("check", "grpo | clip(-1, 1)", "-b", "numpy,readonly", "--law", "MASKED_ZERO", "--law", "PURE")
    assert result.exit_code == 0, result.output
    assert "All 4 checks hold." in result.stdout
    assert run("check", mine, "-b", "numpy", "--law", "KIND").exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.to_be:Found"], "No module is called 'nowhere'"),
        (["gone.py:Mine"], "There is no file gone.py"),
        (["mine.py"], "mine.py is a file; name the class in it as well, for instance mine.py:MyEstimator."),
        (["mine_of_the_test:Mein"], "a subclass of advantage_zoo.Estimator; mine_of_the_test has no such name"),
        (["mine_of_the_test:NOT_ONE"], "mine_of_the_test has something else there"),
        (["gpro"], "No estimator is called 'gpro' (did you mean 'grpo'?)"),
        (["grpo", "-b", "nunpy"], "No backend is called 'nunpy'"),
        (["grpo", "--law", "SHFIT"], "No invariant is called SHFIT"),
        (["reinforce", "--law", "SHIFT"], "reinforce does not claim SHIFT"),
    ],
)
def test_check_says_what_is_wrong(mine, words, message):
    assert message in refused("check", *words)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("class Mine(:", "(SyntaxError: invalid syntax (broken_mine.py, line 1))"),
        ("import a_library_that_is_not_there", "(ModuleNotFoundError: No module named 'a_library_that_is_not_there')"),
        ("MY = YOURS", "(NameError: name 'YOURS' is not defined)"),
    ],
)
def test_check_of_code_that_does_not_run_says_so(tmp_path, monkeypatch, code, message):
    (tmp_path / "broken_mine.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    of_file, of_module = (refused("check", f"{place}:Mine") for place in ("broken_mine.py", "broken_mine"))
    assert of_file == f"Error: broken_mine.py can't be imported {message}; python broken_mine.py shows where."
    assert of_module == f'Error: broken_mine can\'t be imported {message}; python -c "import broken_mine" shows where.'

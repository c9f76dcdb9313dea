"""`advantage-zoo score`: what it says."""

import json
import subprocess
import sys

from adapter_transformers.made import our_file
from click.testing import CliRunner
from made_rollouts import made_rollouts, rollout_file

from advantage_zoo.cli import main
from advantage_zoo.rollouts.rollouts import SIGNALS


def test_help_costs_no_torch():
    code = "import sys, advantage_zoo_transformers.commands; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "advantage-zoo score rollout_data/7.jsonl" in command("--help").output
    assert "score" in CliRunner().invoke(main, ["--help"]).output


def command(*words):
    return CliRunner().invoke(main, ["score", *map(str, words)])


def test_the_command_says_what_it_did(place):
    our_file(place / "in.parquet")
    result = command("in.parquet", "--model", "policy", "-o", "out.parquet")
    assert result.exit_code == 0, result.output
    assert "9 responses" in result.stdout
    assert "Next: advantage-zoo compare out.parquet" in result.stdout
    assert "Note: ref_logprobs is left out: 9 of 9 rows have none" in result.stderr
    result = command("in.parquet", "--model", "policy", "--ref-model", "base", "-o", "b.parquet", "--json")
    assert json.loads(result.stdout)["computed"] == dict.fromkeys(SIGNALS, 9)


def test_the_command_refuses_in_one_sentence(place):
    result = command("nowhere.parquet", "--model", "policy", "-o", "out.parquet")
    assert result.exit_code == 2
    assert result.stderr == "Error: nowhere.parquet: there is no such file.\n"


def test_compare_names_the_command_that_computes_what_is_missing(place):
    our_file(place / "in.parquet")
    for words in (("-e", "ep_grpo"), ()):
        result = CliRunner().invoke(main, ["compare", "in.parquet", *words])
        expected = "advantage-zoo score in.parquet --model POLICY --ref-model REFERENCE -o scored.parquet"
        assert expected in result.stderr, words
    made = made_rollouts()
    rollout_file(place / "b.parquet", ref_logprobs=None, tokens=made.tokens)
    result = CliRunner().invoke(main, ["compare", "b.parquet"])
    assert "advantage-zoo score b.parquet --ref-model REFERENCE -o scored.parquet" in result.stderr

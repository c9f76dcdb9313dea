"""The log of completions that TRL's own trainer writes, read by `compare`."""

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")

import pyarrow.parquet as pq
import tiny_models
from click.testing import CliRunner
from datasets import Dataset
from frameworks.keep import keep
from trl import GRPOConfig, GRPOTrainer

from advantage_zoo.cli import main
from advantage_zoo.rollouts import read
from advantage_zoo.rollouts.dumps import WORDS

# The frameworks warn about each other.
pytestmark = pytest.mark.filterwarnings("ignore")


def digits(completions, **_):
    """Share of digits, so that rewards are not 0 or 1."""
    return [sum(c.isdigit() for c in text) / max(len(text), 1) for text in completions]


def long(completions, log_extra, **_):
    log_extra("letters", [float(len(text)) for text in completions])
    return [float(len(text) > 5) for text in completions]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two steps of a tiny model, logged."""
    out = tmp_path_factory.mktemp("trl")
    tokenizer = tiny_models.tokenizer()
    tokenizer.padding_side = "left"
    config = GRPOConfig(
        output_dir=str(out),
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=12,
        max_steps=2,
        log_completions=True,
        num_completions_to_print=0,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        seed=0,
    )
    trainer = GRPOTrainer(
        model=tiny_models.make("qwen2"),
        reward_funcs=[digits, long],
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["1+2=", "3+4=", "5+6=", "a+b="]}),
        processing_class=tokenizer,
    )
    trainer.train()
    keep(out / "completions", "trl", "*.parquet")
    return out / "completions"


def test_the_log_of_a_run_is_read(folder):
    tables = [pq.read_table(path).to_pylist() for path in sorted(folder.iterdir())]
    rows = [row for table in tables for row in table]
    assert len(rows) == 16
    rollouts, notes = read(folder)
    assert rollouts.metadata["format"] == "TRL"
    assert rollouts.texts == [row["completion"] for row in rows]
    assert rollouts.prompts == [row["prompt"] for row in rows]
    assert rollouts.rewards == pytest.approx([row["digits"] + row["long"] for row in rows])
    assert len(set(rollouts.groups)) == 4
    assert all(rollouts.groups.count(group) == 4 for group in rollouts.groups)
    assert notes == ["The reward is digits + long; --columns reward=... takes another.", WORDS]


def test_our_preset_gives_the_advantages_of_the_log(folder):
    """So that what is compared is what was trained on."""
    out = CliRunner().invoke(main, ["compare", str(folder), "-e", "grpo@trl", "--json"])
    assert out.exit_code == 0, out.output
    rows = [row for path in sorted(folder.iterdir()) for row in pq.read_table(path).to_pylist()]
    largest = max(abs(row["advantage"]) for row in rows)
    assert json.loads(out.stdout)["estimators"][0]["metrics"]["largest"] == pytest.approx(largest, abs=1e-3)

"""score_files(): what is computed, what is kept."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from adapter_transformers.made import ROW, assert_scored, ids_of, jsonl, our_file, run
from advantage_zoo_transformers import files, score_files
from click.testing import CliRunner
from tiny_models import BOS, make, plain_scores

import advantage_zoo as az
from advantage_zoo.cli import main
from advantage_zoo.rollouts import read_rollouts
from advantage_zoo.rollouts.rollouts import SIGNALS

DUMPS = Path(__file__).parents[1] / "dumps"


@pytest.mark.parametrize("batch_tokens", [1, 50, 10_000])
def test_a_rollout_file_gets_the_numbers_of_plain_forward_passes(place, batch_tokens):
    source = our_file(place / "in.parquet")
    done = run(place, source, temperature=0.7, batch_tokens=batch_tokens, chunk_tokens=7)
    rollouts, before = read_rollouts(place / "out.parquet"), read_rollouts(source)
    assert_scored(rollouts, [ids_of(prompt) for prompt in before.prompts], temperature=0.7)
    assert (done.responses, done.computed) == (9, dict.fromkeys(SIGNALS, 9))
    assert done.tokens == sum(map(len, rollouts.token_ids))
    for name, mean in done.means.items():
        assert mean == pytest.approx(np.concatenate(getattr(rollouts, name)).mean(), rel=1e-5)
    assert not (place / "out.parquet.parts").exists()
    for name in ("prompts", "texts", "tokens", "token_ids", "rewards", "groups", "step_index", "step_correct"):
        assert getattr(rollouts, name) == getattr(before, name), name
    assert rollouts.metadata["model"] == "made by hand"
    assert rollouts.metadata["scored"]["temperature"] == 0.7


def test_what_the_file_has_is_kept_to_the_bit_whatever_it_is(place):
    our_file(place / "in.parquet")
    table = pq.read_table(place / "in.parquet")
    lengths = [len(ids) for ids in table.column("token_ids").to_pylist()]
    given = pa.array([[-1 / 3] * n for n in lengths], pa.list_(pa.float64()))
    table = table.append_column("logprobs", given).append_column("mine", pa.array([{"a": i} for i in range(9)]))
    pq.write_table(table, place / "in.parquet")
    done = run(place, place / "in.parquet")
    out = pq.read_table(place / "out.parquet")
    assert done.computed == {"logprobs": 0, "ref_logprobs": 9, "entropies": 9}
    for name in table.column_names:
        assert out.column(name).combine_chunks() == table.column(name).combine_chunks(), name
    pq.read_table(place / "out.parquet")
    done = score_files(["in.parquet"], "again.parquet", model="policy", rescore=True, progress=False)
    assert done.computed == {"logprobs": 9, "ref_logprobs": 0, "entropies": 9}
    assert read_rollouts("again.parquet").logprobs[0][0] != np.float32(-1 / 3)
    assert done.means["ref_logprobs"] is None
    assert "ref_logprobs is left out: 9 of 9 rows have none; ref_model gives it." in done.notes


def test_the_ids_of_the_prompts_are_taken_where_the_file_has_them(place):
    our_file(place / "in.parquet")
    prompts = [[BOS, 5, row + 3] for row in range(9)]
    table = pq.read_table(place / "in.parquet").append_column("prompt_ids", pa.array(prompts))
    pq.write_table(table, place / "in.parquet")
    run(place, place / "in.parquet")
    assert_scored(read_rollouts(place / "out.parquet"), prompts)


def test_a_dump_of_verl_is_tokenized_and_compared_by_every_estimator(place):
    done = run(place, DUMPS / "verl-0.9.1")
    rollouts = read_rollouts(place / "out.parquet")
    assert rollouts.texts[1] == "4, no 3"
    assert rollouts.tokens[1] == list("4, no 3")
    assert rollouts.groups == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert_scored(rollouts, [ids_of(prompt) for prompt in rollouts.prompts])
    assert any(note.startswith("There are no token ids, so the text is tokenized.") for note in done.notes)
    assert any(note.startswith("The rollouts are of 2 training steps") for note in done.notes)
    result = CliRunner().invoke(main, ["compare", "out.parquet", "--json"])
    assert result.exit_code == 0, result.output
    compared = {entry["name"] for entry in json.loads(result.stdout)["estimators"]}
    assert compared == {name for name in az.names() if az.estimator(name).needs <= set(SIGNALS)}
    assert "ep_grpo" in compared


def test_a_log_of_trl_is_scored_if_the_tokenizer_can_spell_it(place):
    with pytest.raises(ValueError, match=r"completions_00001.parquet, row 0, has the response '<46>8322e8rq', which"):
        run(place, DUMPS / "trl-1.16.0")
    for file in sorted((DUMPS / "trl-1.16.0").glob("*.parquet")):
        rows = pq.read_table(file).to_pylist()
        rows = [row | {"completion": re.sub("<[0-9]+>", "", row["completion"])} for row in rows]
        pq.write_table(pa.Table.from_pylist(rows), place / file.name)
        run(place, place / file.name, columns={"reward": "digits"})
        rollouts = read_rollouts(place / "out.parquet")
        assert_scored(rollouts, [ids_of(prompt) for prompt in rollouts.prompts])
        (place / "out.parquet").unlink()


def test_only_the_rows_that_lack_a_signal_are_scored(place):
    row = {"prompt": "1+2=", "text": "34", "reward": 1.0, "tokens": ["3", "4"], "token_ids": ids_of("34")}
    rows = [row | {"logprobs": [-7.0, -8.0], "entropies": [0.5, 0.25]}, row | {"entropies": [1.0, 2.0]}, row]
    done = run(place, jsonl(place / "in.jsonl", rows), ref_model=None)
    rollouts = read_rollouts(place / "out.parquet")
    logprobs, entropies = plain_scores(make("llama"), ids_of("1+2="), ids_of("34"))
    np.testing.assert_allclose(rollouts.logprobs, [[-7, -8], logprobs, logprobs], rtol=1e-4)
    np.testing.assert_allclose(rollouts.entropies, [[0.5, 0.25], [1, 2], entropies], rtol=1e-4)
    assert done.computed == {"logprobs": 2, "ref_logprobs": 0, "entropies": 1}


def test_files_with_other_columns_are_put_together(place):
    folder = place / "steps"
    folder.mkdir()
    mask = [[True] * len(row) for row in read_rollouts(our_file(place / "x.parquet")).tokens]
    our_file(folder / "1.parquet", metadata={"step": 1, "source": "verl"})
    our_file(folder / "2.parquet", response_mask=mask, step_index=None, step_correct=None, metadata={"step": 2})
    run(place, folder)
    rollouts = read_rollouts(place / "out.parquet")
    assert rollouts.response_mask == mask + mask
    assert rollouts.step_correct[9:] == [[]] * 9
    assert pq.read_table("out.parquet").column("step").to_pylist() == [1] * 9 + [2] * 9
    assert "step" not in rollouts.metadata


def test_training_steps_are_of_all_rows_or_of_none(place, monkeypatch):
    monkeypatch.setattr(files, "SHARD_ROWS", 1)
    run(place, jsonl(place / "in.jsonl", [ROW | {"step": 1}, ROW]))
    assert "step" not in pq.read_schema(place / "out.parquet").names
    assert len(read_rollouts(place / "out.parquet")) == 2
    folder = place / "steps"
    folder.mkdir()
    our_file(folder / "1.parquet", metadata={"step": 1})
    our_file(folder / "2.parquet")
    with pytest.raises(ValueError, match=r"2.parquet has no training step, which others have; score them one by one"):
        score_files([folder], place / "b.parquet", model="policy", progress=False)

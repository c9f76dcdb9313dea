"""What is written while training goes on: whole files that `compare` reads."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from made_dumping import LENGTHS, PROMPTS, Letters, batch_of, write

import advantage_zoo as az
from advantage_zoo.cli import main
from advantage_zoo.rollouts import RolloutDump, RolloutFileError, Tokens, read, read_rollouts


def in_torch(x):
    return pytest.importorskip("torch").tensor(x)


def in_jax(x):
    return pytest.importorskip("jax.numpy").asarray(x)


def converted(batch, tokens, convert):
    names = ("rewards", "response_mask", "group_ids", "logprobs", "ref_logprobs", "entropies")
    fields = {name: convert(getattr(batch, name)) for name in names}
    return az.RolloutBatch(**fields), Tokens(convert(tokens.ids), convert(tokens.present))


@pytest.mark.parametrize("convert", [np.asarray, in_torch, in_jax], ids=["numpy", "torch", "jax"])
def test_what_was_handed_over_is_in_the_file(tmp_path, convert):
    batch, tokens = batch_of()
    dump = RolloutDump(tmp_path / "new" / "folder", Letters(), source="tests")
    given, ids = converted(batch, tokens, convert)
    dump.write(given, step=7, prompts=PROMPTS, responses=ids)
    dump.flush()
    found = read_rollouts(tmp_path / "new" / "folder" / "step_000007.parquet")
    rows = [0, 1, 2, 4]  # without the row of padding
    assert found.metadata == {"source": "tests", "step": 7}
    assert found.prompts == [PROMPTS[row] for row in rows]
    assert found.groups == [0, 0, 1, 1]
    np.testing.assert_array_equal(found.rewards, np.asarray(given.rewards)[rows])
    for at, row in enumerate(rows):
        expected = tokens.ids[row, : LENGTHS[row]].tolist()
        assert found.token_ids[at] == expected
        assert found.tokens[at] == ["$abcdefghij"[i] for i in expected]
        assert found.texts[at] == "".join("$abcdefghij"[i] for i in expected if i)  # no special token
        assert found.response_mask[at] == batch.response_mask[row, : LENGTHS[row]].tolist()
        for name in ("logprobs", "ref_logprobs", "entropies"):
            np.testing.assert_array_equal(getattr(found, name)[at], getattr(batch, name)[row, : LENGTHS[row]])


def test_padding_on_the_left_and_prompts_in_tokens(tmp_path):
    """As in frameworks whose slots hold prompt and response."""
    batch, tokens = batch_of()
    turned = replace(batch, **{name: getattr(batch, name)[:, ::-1] for name in ("response_mask", "logprobs")})
    turned = replace(turned, ref_logprobs=None, entropies=None)
    ids, present = tokens.ids[:, ::-1], tokens.present[:, ::-1]
    dump = RolloutDump(tmp_path, Letters(), source="tests")
    dump.write(turned, step=0, prompts=Tokens(ids, ~present), responses=Tokens(ids, present))
    dump.flush()
    found = read_rollouts(tmp_path / "step_000000.parquet")
    assert found.prompts == ["jj", "jjj", "j", "jjjj"]
    ids_of_prompts = pq.read_table(tmp_path / "step_000000.parquet").column("prompt_ids").to_pylist()
    assert ids_of_prompts == [[10] * 2, [10] * 3, [10], [10] * 4]
    assert found.token_ids[2] == tokens.ids[2, :4][::-1].tolist()
    assert found.response_mask[2] == [True, True, False, True]
    assert found.entropies is None


def test_a_packed_batch(tmp_path):
    padded, tokens = batch_of()
    kept = tokens.present
    names = ("response_mask", "logprobs", "ref_logprobs", "entropies")
    packed = az.RolloutBatch.packed(
        cu_seqlens=np.cumsum([0, *LENGTHS]),
        rewards=padded.rewards,
        group_ids=padded.group_ids,
        **{name: getattr(padded, name)[kept] for name in names},
    )
    dump = RolloutDump(tmp_path, Letters(), source="tests")
    dump.write(packed, step=0, prompts=PROMPTS, responses=Tokens(tokens.ids[kept], kept[kept]))
    dump.write(padded, step=1, prompts=PROMPTS, responses=tokens)
    dump.flush()
    one, other = (pq.read_table(tmp_path / f"step_00000{step}.parquet").drop(["step"]) for step in (0, 1))
    assert one.equals(other)


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float64"])
def test_narrow_floats_are_widened_without_loss(tmp_path, kind):
    torch = pytest.importorskip("torch")
    batch, tokens = converted(*batch_of(), in_torch)
    batch = replace(batch, logprobs=batch.logprobs.to(getattr(torch, kind)).requires_grad_())
    dump = RolloutDump(tmp_path, Letters(), source="tests")
    dump.write(batch, step=0, prompts=PROMPTS, responses=tokens)
    dump.flush()
    found = read_rollouts(tmp_path / "step_000000.parquet").logprobs
    np.testing.assert_array_equal(np.concatenate(found), batch.logprobs.detach().float()[tokens.present].numpy())


def test_the_prompt_of_a_group_is_decoded_once(tmp_path):
    decoded = []

    class Listening(Letters):
        def decode(self, ids, **options):
            decoded.append(list(ids))
            return super().decode(ids, **options)

    batch, tokens = batch_of()
    prompts = np.array([[1, 2], [1, 2], [3, 4], [3, 4], [3, 4]])
    dump = RolloutDump(tmp_path, Listening(), source="tests")
    dump.write(batch, step=0, prompts=Tokens(prompts, np.ones_like(prompts)), responses=tokens)
    dump.flush()
    assert read_rollouts(tmp_path / "step_000000.parquet").prompts == ["ab", "ab", "cd", "cd"]
    assert (decoded.count([1, 2]), decoded.count([3, 4])) == (1, 1)


def test_a_step_of_padding_alone_is_a_file_without_rows(tmp_path):
    batch, tokens = batch_of()
    empty = replace(batch, response_mask=np.zeros_like(batch.response_mask))
    dump = RolloutDump(tmp_path, Letters(), source="tests")
    dump.write(empty, step=0, prompts=Tokens(tokens.ids, tokens.present), responses=tokens)
    dump.flush()
    assert pq.read_table(tmp_path / "step_000000.parquet").num_rows == 0


def test_compare_reads_the_folder_and_keeps_the_steps_apart(tmp_path):
    """Groups are numbered from 0 in every step, and from a million in a step's second part."""
    write(tmp_path, 0, 1)
    write(tmp_path, 1, part=1)
    rollouts, _ = read(tmp_path)
    assert len(rollouts) == 12
    assert len(set(rollouts.groups)) == 6
    assert read_rollouts(tmp_path / "step_000001_1.parquet").groups == [1_000_000, 1_000_000, 1_000_001, 1_000_001]
    done = CliRunner().invoke(main, ["compare", str(tmp_path), "-e", "grpo,ep_grpo", "--json"])
    assert done.exit_code == 0, done.output


def test_a_folder_without_signals_is_read(tmp_path):
    batch, tokens = batch_of()
    dump = RolloutDump(tmp_path, Letters(), source="tests")
    bare = replace(batch, logprobs=None, ref_logprobs=None, entropies=None)
    dump.write(bare, step=0, prompts=PROMPTS, responses=tokens)
    dump.flush()
    rollouts, _ = read(tmp_path)
    assert rollouts.response_mask[2] == batch.response_mask[2, :4].tolist()
    assert rollouts.logprobs is None


def test_a_run_that_is_resumed_replaces_the_steps_that_it_repeats(tmp_path):
    write(tmp_path, 0, 1)
    kept = (tmp_path / "step_000000.parquet").read_bytes()
    batch, tokens = batch_of(5)
    dump = RolloutDump(tmp_path, Letters(), source="tests")
    dump.write(batch, step=1, prompts=PROMPTS, responses=tokens)
    dump.flush()
    assert (tmp_path / "step_000000.parquet").read_bytes() == kept
    np.testing.assert_array_equal(read_rollouts(tmp_path / "step_000001.parquet").rewards, batch.rewards[[0, 1, 2, 4]])


def test_a_folder_that_cannot_be_made_is_refused_at_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        RolloutFileError, match=r"file/folder can't be made or written to \(Not a directory\); name anoth"
    ):
        RolloutDump(tmp_path / "file" / "folder", Letters(), source="tests")


def test_what_could_not_be_written_is_said_at_the_next_step(tmp_path):
    dump = write(tmp_path, 0)
    (tmp_path / "step_000001.parquet").mkdir()
    batch, tokens = batch_of()
    dump.write(batch, step=1, prompts=PROMPTS, responses=tokens)
    with pytest.raises(RolloutFileError, match=r"step_000001.parquet can't be written \(.*[Dd]irectory"):
        dump.write(batch, step=2, prompts=PROMPTS, responses=tokens)
    dump.write(batch, step=2, prompts=PROMPTS, responses=tokens)  # said once
    dump.flush()
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["step_000000.parquet", "step_000002.parquet"]


def test_a_shape_that_does_not_fit_and_a_mask_on_padding_are_refused(tmp_path):
    batch, tokens = batch_of()
    dump = RolloutDump(tmp_path, Letters(), source="tests")
    with pytest.raises(ValueError, match=r"responses.ids has shape \(5, 4\); expected \(5, 5\)"):
        dump.write(batch, step=0, prompts=PROMPTS, responses=Tokens(tokens.ids[:, :4], tokens.present))
    with pytest.raises(ValueError, match="prompts has 4 rows; expected 5"):
        dump.write(batch, step=0, prompts=PROMPTS[:4], responses=tokens)
    many = replace(batch, group_ids=batch.group_ids * 1_000_000, num_groups=1_000_001)
    with pytest.raises(ValueError, match="group_ids has 1000000; a part of a step"):
        dump.write(many, step=0, prompts=PROMPTS, responses=tokens)
    batch.response_mask[1, 4] = True
    dump.write(batch, step=0, prompts=PROMPTS, responses=tokens)
    with pytest.raises(
        ValueError, match=r"step_000000.parquet: response_mask, row 1, is True on a slot that holds no to"
    ):
        dump.flush()

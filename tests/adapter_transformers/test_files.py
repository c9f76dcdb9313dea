"""score_files() and `advantage-zoo score`: what is computed, what is kept, what a kill leaves, what is refused."""

import pytest

torch = pytest.importorskip("torch")
tf = pytest.importorskip("transformers", minversion="4.56")  # a version: this folder has the name, too
pa = pytest.importorskip("pyarrow")

import json  # noqa: E402
import re  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from advantage_zoo_transformers import files, score_files  # noqa: E402
from click.testing import CliRunner  # noqa: E402
from made_rollouts import made_rollouts, rollout_file  # noqa: E402
from tiny_models import ALPHABET, BOS, EOS, make, plain_scores, tokenizer  # noqa: E402

import advantage_zoo as az  # noqa: E402
from advantage_zoo.cli import main  # noqa: E402
from advantage_zoo.rollouts import read_rollouts  # noqa: E402
from advantage_zoo.rollouts.rollouts import SIGNALS  # noqa: E402

ROW = {"prompt": "1+2=", "text": "3", "reward": 1.0}
DUMPS = Path(__file__).parents[1] / "dumps"
TEMPLATE = (
    "{% for m in messages %}<bos>{{ m.role }} {{ m.content }};{% endfor %}"
    "{% if add_generation_prompt %}<bos>assistant {% endif %}"
)


def ids_of(text):
    return tokenizer()(text, add_special_tokens=False)["input_ids"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a policy, a reference and a policy whose tokenizer has a chat template."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("policy", 0), ("base", 1), ("chat", 0)):
        make("llama", seed=seed).save_pretrained(tmp_path / name)
        tokenizer().save_pretrained(tmp_path / name)
    chat = tokenizer()
    chat.chat_template = TEMPLATE
    chat.save_pretrained(tmp_path / "chat")
    return tmp_path


def texts(rows=9):
    rng = np.random.default_rng(2)
    return ["".join(rng.choice(list(ALPHABET), n)) for n in rng.integers(1, 12, rows)]


def our_file(path, **changes):
    """Rollouts whose ids are the tiny tokenizer's, without signals."""
    responses = texts()
    ids = [[*ids_of(text), EOS] for text in responses]
    fields = {
        "prompts": [f"{row // 3}+4=" for row in range(9)],
        "texts": responses,
        "tokens": [[*text, "<eos>"] for text in responses],
        "token_ids": ids,
        "step_index": [[-1] * len(row) for row in ids],
        **dict.fromkeys(SIGNALS),
    }
    return rollout_file(path, **{**fields, **changes})


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(place, source, **changes):
    given = {"model": str(place / "policy"), "ref_model": str(place / "base"), "progress": False}
    return score_files([source], place / "out.parquet", **{**given, **changes})


def assert_scored(rollouts, prompts, seeds=(("logprobs", 0), ("ref_logprobs", 1)), temperature=1.0):
    """Every signal is that of one full forward pass a row, in float64."""
    for name, seed in seeds:
        model = make("llama", seed=seed)
        for row, (prompt, response) in enumerate(zip(prompts, rollouts.token_ids, strict=True)):
            logprobs, entropies = plain_scores(model, prompt, response, temperature)
            np.testing.assert_allclose(getattr(rollouts, name)[row], logprobs, atol=2e-5, rtol=1e-4)
            if name == "logprobs":
                np.testing.assert_allclose(rollouts.entropies[row], entropies, atol=2e-5, rtol=1e-4)


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


# --- killed, and given again


class Killed(BaseException):
    pass


def killed_after(monkeypatch, rows):
    """The process ends as if by a signal once so many rows were scored; gives how many were."""
    scored = []
    real = files.score_one

    def score_one(model, pairs, **options):
        if len(scored) >= rows:
            raise Killed
        scored.extend(options["places"])
        return real(model, pairs, **options)

    monkeypatch.setattr(files, "score_one", score_one)
    return scored


def test_a_run_that_was_killed_goes_on_and_scores_nothing_twice(place, monkeypatch):
    monkeypatch.setattr(files, "SHARD_ROWS", 2)
    source = our_file(place / "in.parquet")
    run(place, source)
    whole = (place / "out.parquet").rename(place / "whole.parquet")
    first = killed_after(monkeypatch, 8)  # two shards under two models
    with pytest.raises(Killed):
        run(place, source)
    assert not (place / "out.parquet").exists()
    parts = sorted((place / "out.parquet.parts").iterdir())
    assert [part.name for part in parts] == ["000000.parquet", "000001.parquet"]
    (place / "out.parquet.parts" / ".000002.parquet.77.part").write_text("half")
    monkeypatch.undo()
    monkeypatch.chdir(place)
    monkeypatch.setattr(files, "SHARD_ROWS", 2)
    rest = killed_after(monkeypatch, 1000)
    run(place, source)
    assert not set(first) & set(rest)
    assert len(first) + len(rest) == 18
    assert pq.read_table("out.parquet") == pq.read_table(whole)
    assert not (place / "out.parquet.parts").exists()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"temperature": 0.7}, r"another temperature \(1.0, now 0.7\)"),
        ({"model": "base"}, "another model "),
        ({"dtype": "bfloat16"}, r"another dtype \('auto', now 'bfloat16'\)"),
    ],
)
def test_rows_that_were_scored_otherwise_are_not_taken(place, monkeypatch, changes, what):
    monkeypatch.setattr(files, "SHARD_ROWS", 2)
    source = our_file(place / "in.parquet")
    killed_after(monkeypatch, 8)
    with pytest.raises(Killed):
        run(place, source)
    with pytest.raises(ValueError, match=rf"out.parquet.parts holds rows that were scored with {what}"):
        run(place, source, **changes)
    our_file(source, rewards=[0.0] * 9)
    with pytest.raises(ValueError, match="scored with another rollouts"):
        run(place, source)


# --- text


def chat_ids(*messages):
    whole = "".join(f"<bos>{role} {content};" for role, content in messages)
    return ids_of(f"{whole}<bos>assistant ")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("user 1+2=;assistant ", [("user", "1+2=")]),
        ("system add;user 1+2=;assistant ", [("system", "add"), ("user", "1+2=")]),
        ("user ;user ;assistant ", [("user", ";user ")]),
    ],
)
def test_prompts_of_verl_are_reconstructed_by_the_chat_template(place, prompt, expected):
    row = {"input": prompt, "output": "3", "score": 1.0, "step": 1}
    run(place, jsonl(place / "1.jsonl", [row]), model="chat")
    assert pq.read_table("out.parquet").column("prompt_ids").to_pylist() == [chat_ids(*expected)]
    assert_scored(read_rollouts("out.parquet"), [chat_ids(*expected)])


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("1+2=", "is what the chat template makes of no conversation of a user's message and perhaps a system's"),
        ("system a;user b;user c;assistant ", "makes of more than one conversation"),
        ("user 1;assistant 2;user 3;assistant ", None),
    ],
)
def test_prompts_that_can_not_be_reconstructed_are_refused(place, prompt, sentence):
    row = {"input": prompt, "output": "3", "score": 1.0, "step": 1}
    if sentence is None:  # to a template without escapes, a message that looks like a turn is a message
        run(place, jsonl(place / "1.jsonl", [row]), model="chat")
        assert pq.read_table("out.parquet").column("prompt_ids").to_pylist() == [
            chat_ids(("user", "1;assistant 2;user 3"))
        ]
        return
    with pytest.raises(ValueError, match=sentence) as caught:
        run(place, jsonl(place / "1.jsonl", [row]), model="chat")
    assert str(caught.value).startswith("1.jsonl, line 1, has the prompt ")
    run(place, place / "1.jsonl", model="chat", prompts="text")
    assert pq.read_table("out.parquet").column("prompt_ids").to_pylist() == [ids_of(prompt)]


def test_conversations_and_messages_go_through_the_chat_template(place):
    row = {"text": "3", "reward": 1.0}
    talk = jsonl(place / "talk.jsonl", [row | {"prompt": [{"role": "user", "content": "1+2="}]}])
    run(place, talk, model="chat")
    assert_scored(read_rollouts("out.parquet"), [chat_ids(("user", "1+2="))])
    plain = jsonl(place / "plain.jsonl", [row | {"prompt": "1+2="}])
    score_files([plain], "b.parquet", model="chat", prompts="message", progress=False)
    assert pq.read_table("b.parquet").column("prompt_ids").to_pylist() == [chat_ids(("user", "1+2="))]
    answer = row | {"prompt": "1+2=", "text": [{"role": "assistant", "content": "3"}]}
    score_files([jsonl(place / "c.jsonl", [answer])], "c.parquet", model="chat", progress=False)
    assert read_rollouts("c.parquet").token_ids == [ids_of("3")]
    with pytest.raises(ValueError, match="line 1, has a conversation for a prompt, and the tokenizer has no chat temp"):
        score_files([talk], "d.parquet", model="policy", progress=False)


def test_a_beginning_that_the_text_has_is_not_put_before_it_again(place):
    begins = tf.PreTrainedTokenizerFast.from_pretrained(place / "policy")
    from tokenizers.processors import TemplateProcessing

    begins.backend_tokenizer.post_processor = TemplateProcessing("<bos> $A", special_tokens=[("<bos>", BOS)])
    begins.save_pretrained(place / "policy")
    rows = [{"prompt": prompt, "text": "3", "reward": 1.0} for prompt in ("1+2=", "<bos>1+2=")]
    run(place, jsonl(place / "in.jsonl", rows))
    assert pq.read_table("out.parquet").column("prompt_ids").to_pylist() == [[BOS, *ids_of("1+2=")]] * 2


# --- refused, in a sentence


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (ROW | {"prompt": ""}, "has no prompt, so that there is nothing to score the response after"),
        (ROW | {"prompt": None}, "has no prompt"),
        (ROW | {"text": "Ω"}, "has the response 'Ω', which this tokenizer does not give again"),
        (ROW | {"text": "3" * 70}, "74 tokens, prompt and response, are too many for LlamaForCausalLM, .* 64"),
        (ROW | {"tokens": ["3"]}, "has tokens without token_ids; give it these, or leave its tokens out"),
        (ROW | {"tokens": ["3"], "token_ids": [99]}, "token id 99 is outside the vocabulary of LlamaForCausalLM .0 to"),
        (ROW | {"prompt_ids": "1"}, "has prompt_ids that are no integers; expected the token ids of the prompt"),
        (
            ROW | {"text": [{"role": "assistant", "content": "a"}, {"role": "tool", "content": "b"}]},
            r"has a completion of 2 messages \(assistant, tool\), of which the tokens that the policy emitted can't be",
        ),
    ],
)
def test_rows_that_can_not_be_scored_are_named_before_any_is(place, row, sentence):
    source = jsonl(place / "in.jsonl", [ROW, ROW, row])
    with pytest.raises(ValueError, match=sentence) as caught:
        run(place, source)
    assert str(caught.value).startswith("in.jsonl, line 3,")
    assert not list(place.glob("out*"))


def test_ids_of_another_tokenizer_are_told(place):
    our_file(place / "in.parquet", texts=["another text"] * 9)
    told = run(place, place / "in.parquet").notes
    assert told[-1].startswith("The token ids of 9 responses are not their text in this tokenizer's words")
    assert told[-1].endswith("The first: in.parquet, row 0.")


def test_a_token_that_the_model_forbids_is_refused(place):
    model = make("llama")
    with torch.no_grad():
        model.lm_head.weight[ids_of("3")[0]] = torch.finfo(torch.float32).min
        model.model.norm.weight.fill_(1e30)
    model.save_pretrained(place / "policy")
    with pytest.raises(ValueError, match=r"in.jsonl, line 1, (token 0, has logprobs -inf|the logits of)"):
        run(place, jsonl(place / "in.jsonl", [ROW]))


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"model": None, "ref_model": None}, ValueError, "There is no model to score with"),
        ({"model": "./nowhere"}, FileNotFoundError, "model is './nowhere': there is no such folder"),
        ({"temperature": 0.0}, ValueError, "temperature is 0.0; expected a finite number above 0"),
        ({"batch_tokens": 0}, ValueError, "batch_tokens is 0; expected at least 1"),
        ({"prompts": "chat"}, ValueError, "prompts is 'chat'; expected text, decoded, message"),
        ({"dtype": "float8"}, ValueError, "dtype is 'float8'; expected auto, float32"),
    ],
)
def test_arguments_that_are_wrong(place, changes, error, sentence):
    with pytest.raises(error, match=sentence):
        run(place, our_file(place / "in.parquet"), **changes)


def test_files_that_are_wrong(place):
    source = our_file(place / "in.parquet")
    other = jsonl(place / "in.jsonl", [ROW])
    given = {"model": "policy", "progress": False}
    for sources, out, sentence in [
        ([], "out.parquet", "There are no rollouts to score"),
        ([source], "in.parquet", "in.parquet is there already; remove it, or name another file"),
        ([source], "out.jsonl", "out.jsonl is not called .parquet"),
        (["nowhere"], "out.parquet", "nowhere: there is no such file"),
        ([source, other], "out.parquet", "some are rollout files and some are not"),
        ([rollout_file(place / "full.parquet")], "out.parquet", "the rollouts have logprobs and entropies; rescore"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            score_files(sources, out, **given)
    with pytest.raises(FileNotFoundError, match=r"no such folder to write out\.parquet into"):
        score_files([source], "nowhere/out.parquet", **given)


# --- the command line


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

"""What score_files() refuses, in a sentence that names the row."""

import pytest
from adapter_transformers.made import ROW, ids_of, jsonl, our_file, run, torch
from advantage_zoo_transformers import score_files
from made_rollouts import rollout_file
from tiny_models import make


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (ROW | {"prompt": ""}, "has no prompt, so that there is nothing to score the response after"),
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
        ({"device": "gpu"}, ValueError, "device is 'gpu', which PyTorch can't use here .*; leave it out"),
        ({"device": "cuda:99"}, ValueError, "device is 'cuda:99', which PyTorch can't use here .*; leave it out"),
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
    (place / "out.parquet.parts").write_text("in the way")
    with pytest.raises(
        OSError, match=r"^out.parquet.parts, where scored .* \(File exists\); name another .* out.parquet"
    ):
        score_files([source], "out.parquet", **given)

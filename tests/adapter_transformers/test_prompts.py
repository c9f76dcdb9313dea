"""How score_files() makes token ids of prompts: text, conversations, what verl logged of them."""

import pyarrow.parquet as pq
import pytest
from adapter_transformers.made import assert_scored, ids_of, jsonl, run, tf
from advantage_zoo_transformers import score_files
from tiny_models import BOS

from advantage_zoo.rollouts import read_rollouts


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

"""collect(): which tokens come back, from which distribution, and from which random numbers."""

import pytest

torch = pytest.importorskip("torch")
tf = pytest.importorskip("transformers", minversion="4.56")  # a version: this folder has the name, too

import dataclasses  # noqa: E402
import math  # noqa: E402

import numpy as np  # noqa: E402
from advantage_zoo_transformers import Step, Verdict, collect  # noqa: E402
from advantage_zoo_transformers.generating import generate, generation_config, sampling_from  # noqa: E402
from advantage_zoo_transformers.verdicts import step_index, token_texts  # noqa: E402
from tiny_models import ALPHABET, CONFIGS, EOS, PAD, VOCABULARY, make, plain_scores, tokenizer  # noqa: E402

PROMPTS = ["3+4=", "a", "hello world"]


def run(model=None, ref_model=None, prompts=PROMPTS, reward=lambda prompt, text: len(text), **options):
    options = {"max_new_tokens": 9, "batch_size": 5, "tokenizer": tokenizer(), **options}
    return collect(model or make("llama"), ref_model, prompts, reward, options.pop("group_size", 4), **options)


def test_the_columns():
    rollouts = run(ref_model=make("llama", seed=1), seed=3, temperature=0.8)
    assert len(rollouts) == 12
    assert rollouts.prompts == [p for p in PROMPTS for _ in range(4)]
    assert rollouts.groups == [0] * 4 + [1] * 4 + [2] * 4
    assert rollouts.rewards == [float(len(text)) for text in rollouts.texts]
    assert rollouts.step_index is None
    words = tokenizer()
    for row, ids in enumerate(rollouts.token_ids):
        assert 1 <= len(ids) <= 9
        assert EOS not in ids[:-1]
        assert len(ids) == 9 or ids[-1] == EOS
        assert rollouts.texts[row] == words.decode(ids, skip_special_tokens=True)
        logprobs, entropies = plain_scores(make("llama"), words(rollouts.prompts[row])["input_ids"], ids, 0.8)
        np.testing.assert_allclose(rollouts.logprobs[row], logprobs, atol=2e-5)
        np.testing.assert_allclose(rollouts.entropies[row], entropies, atol=2e-5)
    assert {len(ids) for ids in rollouts.token_ids} != {9}
    facts = rollouts.metadata
    assert (facts["seed"], facts["temperature"], facts["top_p"], facts["model"]) == (3, 0.8, 1.0, "LlamaForCausalLM")
    assert facts["versions"]["torch"] == torch.__version__
    rollouts.batch()


def test_without_a_reference_there_are_no_reference_logprobs():
    assert run().ref_logprobs is None
    assert run().metadata["ref_model"] is None


def test_the_seed_decides_and_the_callers_random_state_is_left_alone():
    torch.manual_seed(77)
    state = torch.random.get_rng_state()
    first = run(seed=5)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    assert run(seed=5).token_ids == first.token_ids
    assert run(seed=6).token_ids != first.token_ids


@pytest.mark.parametrize("name", CONFIGS)
def test_left_padding_does_not_change_what_is_sampled(name):
    """Nearly greedy, so that a prompt alone and among longer ones must give the same tokens."""
    model, words = make(name), tokenizer()
    together = run(model, temperature=1e-4, group_size=1, batch_size=3)
    config = generation_config(model, words, 9, 1e-4, 1.0)
    for prompt, ids in zip(PROMPTS, together.token_ids, strict=True):
        with sampling_from(model, config, 0):
            assert generate(model, [words(prompt)["input_ids"]], config) == [ids]


def test_samples_follow_the_distribution_that_is_scored():
    model, words = make("gemma2"), tokenizer()
    rollouts = run(model, prompts=["ab"], group_size=4000, max_new_tokens=1, batch_size=4000, temperature=1.3)
    counts = np.bincount([ids[0] for ids in rollouts.token_ids], minlength=VOCABULARY) / 4000
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([words("ab")["input_ids"]])).logits[0, -1]
    expected = torch.softmax(logits / 1.3, -1).numpy()
    assert np.abs(counts - expected).max() < 5 * math.sqrt(0.25 / 4000)
    assert counts.max() > 2 * counts.min()  # the distribution is not flat


def test_the_models_own_generation_config_has_no_say():
    plain, opinionated = make("llama"), make("llama")
    own = tf.GenerationConfig(
        temperature=0.1,
        top_k=1,
        top_p=0.1,
        do_sample=True,
        repetition_penalty=5.0,
        no_repeat_ngram_size=1,
        min_new_tokens=8,
        suppress_tokens=list(range(3, 20)),
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    opinionated.generation_config = own
    assert run(opinionated).token_ids == run(plain).token_ids
    assert opinionated.generation_config is own
    assert own.top_k == 1


def test_top_p_truncates_the_sampling_but_not_the_scores():
    model, words = make("llama"), tokenizer()
    rollouts = run(model, ref_model=make("llama", seed=9), prompts=["ab"], group_size=300, top_p=0.3, max_new_tokens=2)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([words("ab")["input_ids"]])).logits[0, -1]
    probabilities, order = torch.softmax(logits, -1).sort(descending=True)
    nucleus = set(order[: int((probabilities.cumsum(0) < 0.3).sum()) + 1].tolist())
    assert {ids[0] for ids in rollouts.token_ids} <= nucleus
    assert len(nucleus) < VOCABULARY / 2
    for row, ids in enumerate(rollouts.token_ids[:20]):
        logprobs, entropies = plain_scores(model, words("ab")["input_ids"], ids)
        np.testing.assert_allclose(rollouts.logprobs[row], logprobs, atol=2e-5)
        np.testing.assert_allclose(rollouts.entropies[row], entropies, atol=2e-5)
    assert np.isfinite(np.concatenate(rollouts.ref_logprobs)).all()
    assert rollouts.metadata["distribution"] == "softmax(logits / temperature) over the whole vocabulary"


def test_the_end_is_kept_and_padding_is_not():
    model = make("llama")
    model.generation_config.eos_token_id = [EOS, 5]
    rollouts = run(model, group_size=50)
    ends = {ids[-1] for ids in rollouts.token_ids if len(ids) < 9}
    assert ends == {EOS, 5}
    assert all(not {EOS, 5} & set(ids[:-1]) for ids in rollouts.token_ids)


def test_padding_that_is_also_the_end():
    words = tokenizer()
    words.pad_token = "<eos>"
    rollouts = run(group_size=50, tokenizer=words)
    assert all(ids.count(EOS) <= 1 for ids in rollouts.token_ids)
    assert [len(ids) for ids in rollouts.token_ids] == [len(ids) for ids in run(group_size=50).token_ids]


def test_a_response_of_nothing_but_the_end():
    model = make("llama")
    model.generation_config.eos_token_id = list(range(VOCABULARY))
    rollouts = run(model, reward=lambda prompt, text: 1)
    assert {len(ids) for ids in rollouts.token_ids} == {1}
    assert rollouts.batch().response_mask.shape == (12, 1)


def test_modes_and_dropout():
    model = make("gpt2", resid_pdrop=0.5, embd_pdrop=0.5)
    quiet = run(model).token_ids
    model.train()
    assert run(model).token_ids == quiet
    assert all(module.training for module in model.modules())


def steps_of(prompt, text):
    """A step a pair of characters, the last one unknown."""
    starts = range(0, len(text), 2)
    return Verdict(1.0, [Step(s, min(s + 2, len(text)), None if s + 2 >= len(text) else s == 0) for s in starts])


def test_steps():
    rollouts = run(reward=steps_of)
    for row, ids in enumerate(rollouts.token_ids):
        plain = [i for i in ids if i >= 3]
        if len(plain) == len(rollouts.texts[row]) and plain == list(ids[: len(plain)]):
            expected = [i // 2 for i in range(len(plain))] + [-1] * (len(ids) - len(plain))
            assert list(rollouts.step_index[row]) == expected
        assert len(rollouts.step_correct[row]) == math.ceil(len(rollouts.texts[row]) / 2)
        assert rollouts.step_correct[row][-1:] in ([None], [])


def test_context_reaches_the_reward():
    rollouts = run(
        prompts=["a", "a"],
        context=[{"answer": 1}, {"answer": 2}],
        reward=lambda prompt, text, answer: answer,
        group_size=2,
    )
    assert rollouts.rewards == [1.0, 1.0, 2.0, 2.0]
    assert rollouts.groups == [0, 0, 1, 1]  # equal texts are different prompts all the same


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0}, "temperature is 0; expected a finite number above 0: greedy decoding"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"top_p": 0.0}, "top_p is 0.0; expected more than 0 and at most 1"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"group_size": 0}, "group_size is 0; expected at least 1"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"chunk_tokens": 0}, "chunk_tokens is 0"),
        ({"prompts": []}, "prompts is .*; expected a list of at least one text"),
        ({"prompts": "3+4="}, "prompts is '3[+]4='; expected a list"),
        ({"prompts": ["a", ""]}, "prompts, row 1, '', has no tokens"),
        ({"prompts": ["a", 3]}, "prompts, row 1, is 3; expected a text"),
        ({"context": [{}]}, "context has 1 rows; expected 3, one a prompt"),
        ({"reward": lambda prompt, text: float("nan")}, "The reward of response 0, .*, is nan; expected a finite"),
        (
            {"reward": lambda prompt, text: None},
            "The reward of response 0, .*, is None; expected a number",
        ),
        ({"reward": lambda p, t: Verdict(1, [Step(0, 99, True)])}, "Step 0 of response 0, .* is at characters 0 to 99"),
    ],
)
def test_errors_name_what_is_wrong(changes, message):
    with pytest.raises(ValueError, match=message):
        run(**changes)


def test_a_tokenizer_of_another_model_is_named():
    with pytest.raises(
        ValueError, match=r"sequences, row 0: token id .* is outside the vocabulary of LlamaForCausalLM"
    ):
        run(make("llama", vocab_size=6))


def test_prompts_that_leave_no_room_are_refused():
    model = make("gpt2")
    model.generation_config.eos_token_id = PAD
    with pytest.raises(ValueError, match="prompts: 50 tokens and max_new_tokens = 40 are too many for GPT2LMHeadModel"):
        run(model, prompts=["a" * 50], max_new_tokens=40, group_size=20)


def byte_tokenizer():
    """A token a byte, as the tokenizers of most large models fall back to."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = {word: i for i, word in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=words, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return tf.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>")


@pytest.mark.parametrize("text", ["hello", "na\u00efve \u20ac5", "\U0001f642 ok", " two  spaces ", "\u65e5\u672c"])
def test_token_texts_make_up_the_text(text):
    words = byte_tokenizer()
    ids = words(text)["input_ids"]
    made = token_texts(words, [*ids, words.eos_token_id])
    assert "".join(made[:-1]) == text
    assert made[-1] == "</s>"
    assert len(made) == len(ids) + 1
    steps = [Step(0, len(text), True)]
    assert step_index(made, [False] * len(ids) + [True], steps) == [0] * len(ids) + [-1]


def test_a_character_that_is_cut_off_is_shown():
    words = byte_tokenizer()
    ids = words("a\u20ac")["input_ids"][:-1]
    assert "".join(token_texts(words, ids)) == words.decode(ids)


def test_spaces_in_front_of_words_are_kept():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({"\u2581two": 0, "\u2581words": 1}, unk_token="\u2581two"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    words = tf.PreTrainedTokenizerFast(tokenizer_object=made)
    assert token_texts(words, [0, 1, 1]) == ["two", " words", " words"]


def test_rollouts_are_plain_data():
    assert dataclasses.is_dataclass(run())
    assert len(ALPHABET) + 3 <= VOCABULARY

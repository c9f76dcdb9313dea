"""score() against a plain forward pass of one sequence at a time."""

import pytest

torch = pytest.importorskip("torch")
tf = pytest.importorskip("transformers", minversion="4.56")  # a version: this folder has the name, too

import warnings  # noqa: E402
from types import SimpleNamespace  # noqa: E402

import numpy as np  # noqa: E402
from advantage_zoo_transformers import WholeRowsWarning, score  # noqa: E402
from advantage_zoo_transformers.heads import Head  # noqa: E402
from advantage_zoo_transformers.scoring import batches_by_length, context_length  # noqa: E402
from tiny_models import CONFIGS, VOCABULARY, make, plain_scores  # noqa: E402
from transformers.modeling_outputs import CausalLMOutput  # noqa: E402


def sequences(seed=0, shapes=((3, 4), (7, 1), (1, 6), (5, 0), (4, 9))):
    rng = np.random.default_rng(seed)
    return [tuple(rng.integers(3, VOCABULARY, n).tolist() for n in shape) for shape in shapes]


def assert_scores(scores, model, given, temperature=1.0, atol=2e-5):
    for row, (prompt, response) in enumerate(given):
        logprobs, entropies = plain_scores(model, prompt, response, temperature)
        np.testing.assert_allclose(scores.logprobs[row], logprobs, atol=atol, rtol=1e-4)
        np.testing.assert_allclose(scores.entropies[row], entropies, atol=atol, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_gives_its_own_numbers(name):
    model = make(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # all of these can be parted
        scores = score(model, None, sequences(), chunk_tokens=3, batch_tokens=20, temperature=0.7)
    assert scores.ref_logprobs is None
    assert_scores(scores, model, sequences(), temperature=0.7)


@pytest.mark.parametrize(("chunk_tokens", "batch_tokens"), [(1, 1), (2, 30), (1000, 14), (7, 100)])
def test_chunks_and_batches_do_not_change_the_numbers(chunk_tokens, batch_tokens):
    model, reference = make("gemma2"), make("gemma2", seed=1)
    scores = score(model, reference, sequences(), chunk_tokens=chunk_tokens, batch_tokens=batch_tokens)
    assert_scores(scores, model, sequences())
    for row, (prompt, response) in enumerate(sequences()):
        expected, _ = plain_scores(reference, prompt, response)
        np.testing.assert_allclose(scores.ref_logprobs[row], expected, atol=2e-5)


def test_what_comes_back():
    scores = score(make("llama"), make("gpt2"), sequences())
    for column in (scores.logprobs, scores.entropies, scores.ref_logprobs):
        assert [len(entry) for entry in column] == [4, 1, 6, 0, 9]
        assert {entry.dtype for entry in column} == {np.dtype(np.float32)}
    assert all((entry <= 0).all() for entry in scores.logprobs)
    assert all(((entry >= 0) & (entry <= np.log(VOCABULARY) + 1e-5)).all() for entry in scores.entropies)


def test_the_same_model_as_reference_gives_the_same_numbers():
    model = make("llama")
    scores = score(model, model, sequences())
    for a, b in zip(scores.logprobs, scores.ref_logprobs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_sequences_and_nothing_but_empty_responses():
    assert score(make("llama"), None, []).logprobs == []
    assert [len(x) for x in score(make("llama"), None, [([3], []), ([4, 5], [])]).entropies] == [0, 0]


def test_tensors_and_arrays_are_sequences_too():
    given = [(torch.tensor([3, 4]), np.array([5, 6]))]
    assert_scores(score(make("llama"), None, given), make("llama"), [([3, 4], [5, 6])])


def test_the_model_is_left_as_it_was():
    model = make("gpt2", resid_pdrop=0.5)
    model.train()
    model.transformer.h[0].eval()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    modes = [module.training for module in model.modules()]
    scores = score(model, None, sequences())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert all(weight.grad is None for weight in model.parameters())
    assert "forward" not in vars(model.transformer)
    assert_scores(scores, model.eval(), sequences())  # dropout was off


def test_bfloat16_logits_get_a_float32_softmax():
    model = make("llama").to(torch.bfloat16)
    scores = score(model, None, sequences())
    assert next(model.parameters()).dtype == torch.bfloat16
    assert_scores(scores, model, sequences(), atol=0.2)  # bfloat16 itself rounds with the shape of the product
    chosen = np.concatenate(scores.logprobs)
    assert not np.array_equal(chosen, torch.tensor(chosen).bfloat16().float().numpy())


def test_a_forbidden_token_adds_nothing_to_the_entropy():
    class Forbids(tf.LlamaForCausalLM):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            out.logits[..., :10] = -torch.inf
            return out

    model = Forbids(CONFIGS["llama"]()).eval()
    given = [([20, 21], [30, 31])]
    assert_scores(score(model, None, given), model, given)


def peak_bytes(run):
    """Most memory that was held at a time beyond the start, from the allocator's own events."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    held = peak = 0
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    assert events
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama", "gemma2", "cohere"])
def test_memory_is_bounded_by_one_chunk_of_logits(name, dtype):
    vocabulary = 4096  # so large beside a width of 16 that logits are all that counts
    model = make(name, vocab_size=vocabulary).to(dtype)
    given = sequences(shapes=[(2, 60)] * 8)
    for chunk_tokens in (16, 64):
        bound = 3 * chunk_tokens * vocabulary * 4
        # Every slot of the backbone's own pass, generously: 8 rows x 62 slots x 40 arrays x 24 wide x 4 bytes.
        backbone = 8 * 62 * 40 * 24 * 4
        peak = peak_bytes(lambda n=chunk_tokens: score(model, None, given, chunk_tokens=n, batch_tokens=8 * 62))
        assert peak < bound + backbone
        assert peak > chunk_tokens * vocabulary * 4 / 2  # the measurement sees the logits
    assert bound + backbone < 8 * 62 * vocabulary * 4  # all logits at once would not have passed


class Unusual(tf.LlamaForCausalLM):
    """A forward that also depends on the tokens, so that no head of states alone can give it."""

    def forward(self, input_ids=None, **kwargs):
        out = super().forward(input_ids=input_ids, **kwargs)
        bias = torch.nn.functional.one_hot(input_ids, out.logits.shape[-1]).to(out.logits)
        return CausalLMOutput(logits=out.logits - 3 * bias)


def test_a_model_that_can_not_be_parted_is_scored_by_rows_and_says_so():
    model = Unusual(CONFIGS["llama"]()).eval()
    with pytest.warns(WholeRowsWarning, match="Unusual can't be parted into backbone and head"):
        scores = score(model, None, sequences(), chunk_tokens=3, batch_tokens=60)
    assert_scores(scores, model, sequences())


def test_a_head_that_mixes_tokens_is_found_out():
    class Mixes(tf.LlamaForCausalLM):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            return CausalLMOutput(logits=out.logits.cumsum(1))

    model = Mixes(CONFIGS["llama"]()).eval()
    with pytest.warns(WholeRowsWarning):
        scores = score(model, None, sequences())
    assert_scores(scores, model, sequences())


def test_a_wrapper_that_adds_tokens_is_refused():
    class Prompted(torch.nn.Module):
        """What a prompt-tuning adapter does: virtual tokens in front."""

        def __init__(self, inner):
            super().__init__()
            self.inner, self.config = inner, inner.config

        def get_input_embeddings(self):
            return self.inner.get_input_embeddings()

        def forward(self, input_ids, attention_mask=None, use_cache=None):
            virtual = torch.full_like(input_ids[:, :1], 7)
            return self.inner(input_ids=torch.cat([virtual, input_ids], 1))

    with (
        pytest.warns(WholeRowsWarning),
        pytest.raises(ValueError, match="gives 8 rows of logits for 7 tokens, so that there is no telling"),
    ):
        score(Prompted(make("llama")), None, sequences()[:1])


def test_a_backbone_with_a_forward_of_its_own_gets_it_back():
    model = make("llama")
    inner = model.model.forward
    model.model.forward = lambda *args, **kwargs: inner(*args, **kwargs)  # as accelerate's hooks do
    hooked = model.model.forward
    assert_scores(score(model, None, sequences()), model, sequences())
    assert model.model.forward is hooked


def test_the_head_is_restored_when_the_model_fails():
    model = make("llama")
    with torch.no_grad():
        head = Head(model)
        with pytest.raises(RuntimeError):
            head._of(model.model, torch.zeros(3, 17))
    assert "forward" not in vars(model.model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0; expected a finite number above 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"batch_tokens": 0}, "batch_tokens is 0; expected at least 1"),
        ({"chunk_tokens": 0}, "chunk_tokens is 0; expected at least 1"),
        ({"sequences": [([3], [4]), ([], [4])]}, "sequences, row 1: the prompt is empty"),
        ({"sequences": [([3], [4]), ([3], [99])]}, "sequences, row 1: token id 99 is outside the vocabulary of Llama"),
        ({"sequences": [([-1], [4])]}, "sequences, row 0: token id -1 is outside the vocabulary"),
    ],
)
def test_errors_name_what_is_wrong(changes, message):
    with pytest.raises(ValueError, match=message):
        score(make("llama"), None, changes.pop("sequences", [([3], [4])]), **changes)


def test_a_reference_with_a_smaller_vocabulary_is_named():
    with pytest.raises(ValueError, match=r"token id 52 is outside the vocabulary of GPT2LMHeadModel \(0 to 39\)"):
        score(make("llama"), make("gpt2", vocab_size=40), [([3], [52])])


def test_logits_that_are_not_numbers_are_refused():
    model = make("llama")
    torch.nn.init.constant_(model.lm_head.weight, float("nan"))
    with pytest.warns(WholeRowsWarning), pytest.raises(ValueError, match="sequences, row 0: the logits of Llama"):
        score(model, None, [([3], [4])])


def test_batches_hold_similar_lengths_and_no_more_tokens_than_asked():
    given = [([3], [4] * n) for n in (9, 1, 4, 4, 30, 1)]
    assert batches_by_length(given, 12) == [[1, 5], [2, 3], [0], [4]]
    assert batches_by_length(given, 1) == [[1], [5], [2], [3], [0], [4]]
    assert batches_by_length([], 12) == []


@pytest.mark.parametrize("name", ["llama", "gpt2"])  # llama's own forward would take them
def test_too_long_a_sequence_is_refused(name):
    assert len(score(make(name), None, [([3] * 30, [4] * 34)]).logprobs[0]) == 34
    with pytest.raises(ValueError, match=r"sequences, row 1: 70 tokens, prompt and response, are too many .* has 64"):
        score(make(name), None, [([3], [4]), ([3] * 30, [4] * 40)])


def test_scaled_rotary_positions_make_the_context_longer():
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    for name in ("rope_parameters", "rope_scaling"):  # since transformers 5, and before
        assert context_length(SimpleNamespace(max_position_embeddings=64, **{name: scaling})) == 256
    assert context_length(CONFIGS["mamba"]()) is None


def test_an_encoder_decoder_is_refused():
    model = tf.T5ForConditionalGeneration(
        tf.T5Config(vocab_size=20, d_model=8, d_ff=8, num_layers=1, num_heads=1, d_kv=8, decoder_start_token_id=0)
    )
    with pytest.raises(ValueError, match="T5ForConditionalGeneration has an encoder"):
        score(model, None, [([3], [4])])

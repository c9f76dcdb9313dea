"""Causal language models of many architectures, tiny and randomly initialised, and a tokenizer made on the spot."""

import torch
import transformers as tf
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

VOCABULARY = 53
ALPHABET = "0123456789+=,; abcdefghijklmnopqrstuvwxyz"
PAD, BOS, EOS = 0, 1, 2

COMMON = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
LLAMA_LIKE = {
    **COMMON,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
}

CONFIGS = {
    "llama": lambda: tf.LlamaConfig(**LLAMA_LIKE),
    "mistral": lambda: tf.MistralConfig(**LLAMA_LIKE, sliding_window=8),
    "qwen2": lambda: tf.Qwen2Config(**LLAMA_LIKE, tie_word_embeddings=True),
    "qwen3": lambda: tf.Qwen3Config(**LLAMA_LIKE, head_dim=8),
    "gemma2": lambda: tf.Gemma2Config(**LLAMA_LIKE, head_dim=8, final_logit_softcapping=3.0, query_pre_attn_scalar=8),
    "gemma": lambda: tf.GemmaConfig(**LLAMA_LIKE, head_dim=8),
    "cohere": lambda: tf.CohereConfig(**LLAMA_LIKE, logit_scale=0.0625),
    "granite": lambda: tf.GraniteConfig(**LLAMA_LIKE, logits_scaling=8.0, embedding_multiplier=12.0),
    "olmo2": lambda: tf.Olmo2Config(**LLAMA_LIKE),
    "phi": lambda: tf.PhiConfig(**LLAMA_LIKE),
    "stablelm": lambda: tf.StableLmConfig(**LLAMA_LIKE),
    "mixtral": lambda: tf.MixtralConfig(**LLAMA_LIKE, num_local_experts=4, num_experts_per_tok=2),
    "gpt_neox": lambda: tf.GPTNeoXConfig(**{k: v for k, v in LLAMA_LIKE.items() if k != "num_key_value_heads"}),
    "gpt2": lambda: tf.GPT2Config(**COMMON, n_embd=16, n_layer=2, n_head=2, n_positions=64),
    "gptj": lambda: tf.GPTJConfig(**COMMON, n_embd=16, n_layer=2, n_head=2, n_positions=64, rotary_dim=4),
    "opt": lambda: tf.OPTConfig(
        **COMMON, hidden_size=16, ffn_dim=24, num_hidden_layers=2, num_attention_heads=2, word_embed_proj_dim=12
    ),
    "bloom": lambda: tf.BloomConfig(**COMMON, hidden_size=16, n_layer=2, n_head=2),
    "falcon": lambda: tf.FalconConfig(**COMMON, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, alibi=True),
    "mamba": lambda: tf.MambaConfig(**COMMON, hidden_size=16, num_hidden_layers=2, state_size=4),
}


def make(name, seed=0, scale=1.0, **changes):
    """A model in float32 and evaluation mode, its weights scaled so that the distributions are far from uniform."""
    config = CONFIGS[name]()
    for key, value in changes.items():
        setattr(config, key, value)
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = tf.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(8.0 * scale)
    torch.random.set_rng_state(state)
    return model.eval()


def tokenizer():
    """A token a character."""
    words = {"<pad>": PAD, "<bos>": BOS, "<eos>": EOS, **{c: i for i, c in enumerate(ALPHABET, start=3)}}
    made = Tokenizer(
        models.WordLevel({**words, **{f"<{i}>": i for i in range(len(words), VOCABULARY)}}, unk_token="<pad>")
    )
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made.decoder = decoders.Fuse()
    return tf.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")


def plain_scores(model, prompt, response, temperature=1.0):
    """Log-probabilities and entropies from one full forward pass over one sequence, in float64: the oracle."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0].double()
    rows = torch.log_softmax(logits[len(prompt) - 1 : len(prompt) + len(response) - 1] / temperature, -1)
    chosen = [float(row[token]) for row, token in zip(rows, response, strict=True)]
    return chosen, [float(-(row.exp() * row).nan_to_num(0.0).sum()) for row in rows]

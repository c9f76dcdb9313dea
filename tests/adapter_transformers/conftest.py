"""No network: what a test loads lies on disk. One thread: these models are too small to share among cores."""

import os

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
TEMPLATE = (
    "{% for m in messages %}<bos>{{ m.role }} {{ m.content }};{% endfor %}"
    "{% if add_generation_prompt %}<bos>assistant {% endif %}"
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread(one_thread):
    """In every test here."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a policy, a reference and a policy whose tokenizer has a chat template."""
    from tiny_models import make, tokenizer

    monkeypatch.chdir(tmp_path)
    for name, seed in (("policy", 0), ("base", 1), ("chat", 0)):
        make("llama", seed=seed).save_pretrained(tmp_path / name)
        tokenizer().save_pretrained(tmp_path / name)
    chat = tokenizer()
    chat.chat_template = TEMPLATE
    chat.save_pretrained(tmp_path / "chat")
    return tmp_path

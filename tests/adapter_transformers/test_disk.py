"""collect_from_disk(): folders, prompts and rewards as a user has them on disk."""

import pytest

torch = pytest.importorskip("torch")
tf = pytest.importorskip("transformers", minversion="4.56")  # a version: this folder has the name, too
pa = pytest.importorskip("pyarrow")

import json  # noqa: E402
import sys  # noqa: E402

import pyarrow.parquet as pq  # noqa: E402
from advantage_zoo_transformers import collect_from_disk  # noqa: E402
from advantage_zoo_transformers.disk import load_reward, read_prompts  # noqa: E402
from tiny_models import make, tokenizer  # noqa: E402

from advantage_zoo.rollouts import read_rollouts  # noqa: E402


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    for name, seed in (("policy", 0), ("base", 1)):
        make("llama", seed=seed).save_pretrained(tmp_path / name)
        tokenizer().save_pretrained(tmp_path / name)
    (tmp_path / "p.txt").write_text("3+4=\n\nabc\n")
    (tmp_path / "task.py").write_text("import helper\n\ndef judge(prompt, text):\n    return helper.count(text)\n")
    (tmp_path / "helper.py").write_text("def count(text):\n    return len(text)\n")
    yield tmp_path
    for name in ("helper", "task"):
        sys.modules.pop(name, None)


def run(place, **changes):
    given = {
        "model": str(place / "policy"),
        "ref_model": str(place / "base"),
        "prompts": place / "p.txt",
        "reward": f"{place / 'task.py'}:judge",
        "out": place / "out.parquet",
        "group_size": 2,
        "max_new_tokens": 5,
    }
    return collect_from_disk(**{**given, **changes})


def test_what_is_written_is_what_is_returned(place):
    rollouts = run(place, seed=4, temperature=0.9, top_p=0.9)
    written = read_rollouts(place / "out.parquet")
    assert written.prompts == rollouts.prompts == ["3+4=", "3+4=", "abc", "abc"]
    assert written.token_ids == rollouts.token_ids
    assert written.rewards == [float(len(text)) for text in written.texts]
    assert written.ref_logprobs is not None
    facts = written.metadata
    assert (facts["seed"], facts["temperature"], facts["top_p"]) == (4, 0.9, 0.9)
    assert facts["model"] == str(place / "policy")
    before = (place / "out.parquet").read_bytes()
    run(place, seed=4, temperature=0.9, top_p=0.9)
    assert (place / "out.parquet").read_bytes() == before


def test_without_a_reference(place):
    run(place, ref_model=None)
    assert read_rollouts(place / "out.parquet").ref_logprobs is None


def test_a_reward_of_a_module_in_the_current_folder(place):
    assert load_reward("task:judge")("a", "bcd") == 3


def test_a_file_called_like_a_module_does_not_replace_it(place):
    (place / "json.py").write_text("def judge(prompt, text):\n    return 2\n")
    assert load_reward("json.py:judge")("", "") == 2
    assert sys.modules["json"] is json


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_other_columns_go_to_a_reward_that_takes_them(place, kind):
    records = [{"prompt": "a\u2028b", "answer": 5, "other": 1}, {"prompt": "c", "answer": 6, "other": 1}]
    prompts = place / f"p.{kind}"
    if kind == "jsonl":
        prompts.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in records) + "\n", encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(records), prompts)
    (place / "answers.py").write_text("def judge(prompt, text, *, answer):\n    return answer\n")
    (place / "all.py").write_text("def judge(prompt, text, **context):\n    return sum(context.values())\n")
    assert run(place, prompts=prompts, reward="answers.py:judge").rewards == [5.0, 5.0, 6.0, 6.0]
    assert run(place, prompts=prompts, reward="all.py:judge").rewards == [6.0, 6.0, 7.0, 7.0]
    assert run(place, prompts=prompts).prompts == ["a\u2028b", "a\u2028b", "c", "c"]


def test_a_text_file_with_windows_line_ends(place):
    (place / "p.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo \r\n")
    assert read_prompts(place / "p.txt") == [{"prompt": "one"}, {"prompt": "two "}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "holds no prompts"),
        ("a.txt", b"\n \n", "holds no prompts"),
        ("a.txt", b"\xff\xfe", "is not UTF-8 text"),
        ("a.jsonl", b'{"prompt": "x"}\n{', "line 2, is not JSON"),
        ("a.jsonl", b'{"question": "x"}', "line 1: expected a text in the column 'prompt', got None"),
        ("a.jsonl", b'{"prompt": 3}', "line 1: expected a text in the column 'prompt', got 3"),
        ("a.jsonl", b"[1]", "line 1: expected a text"),
        ("a.parquet", b"PAR1", "is not a readable Parquet file"),
    ],
)
def test_prompts_that_are_none(place, name, content, message):
    (place / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        run(place, prompts=place / name)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"prompts": "nowhere.txt"}, FileNotFoundError, "nowhere.txt: there is no such file of prompts"),
        ({"out": "nowhere/out.parquet"}, FileNotFoundError, "nowhere: there is no such folder"),
        ({"out": "policy"}, ValueError, "policy is a folder; name a file in it"),
        ({"model": "/nowhere/at/all"}, FileNotFoundError, "model is '/nowhere/at/all': there is no such folder"),
        ({"ref_model": "./nowhere"}, FileNotFoundError, "ref_model is './nowhere': there is no such folder"),
        ({"model": "nowhere"}, ValueError, "model is 'nowhere', from which no causal language model can be loaded"),
        ({"model": "empty"}, ValueError, "model is 'empty', from which no causal language model can be loaded"),
        ({"model": "mute"}, ValueError, "model is 'mute', from which no tokenizer can be loaded"),
        ({"reward": "task"}, ValueError, "The reward is 'task'; expected module:function or file.py:function"),
        ({"reward": "task:"}, ValueError, "The reward is 'task:'; expected"),
        ({"reward": "nowhere.py:judge"}, FileNotFoundError, "nowhere.py: there is no such file"),
        ({"reward": "nowhere:judge"}, ImportError, "The reward 'nowhere:judge' can't be imported .ModuleNotFoundError"),
        ({"reward": "task:other"}, ImportError, "The reward is 'task:other', but task has no function 'other'"),
        ({"reward": "bad.py:judge"}, ImportError, "The reward 'bad.py:judge' can't be imported .SyntaxError"),
        ({"temperature": 0.0}, ValueError, "temperature is 0.0; expected a finite number above 0"),
    ],
)
def test_errors_are_one_sentence_that_names_what_is_wrong(place, changes, error, message):
    from pathlib import Path

    (place / "empty").mkdir()
    make("llama").save_pretrained(place / "mute")
    (place / "bad.py").write_text("def judge(:\n")
    paths = {key: Path(changes[key]) for key in ("prompts", "out") if key in changes}
    with pytest.raises(error, match=message) as caught:
        run(place, **{**changes, **paths})
    assert "\n" not in str(caught.value)
    assert not (place / "out.parquet").exists()

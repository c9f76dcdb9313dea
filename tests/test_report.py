"""The HTML page: complete, self-contained, and safe whatever the rollouts hold."""

import hashlib
import html
import re
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner
from made_rollouts import made_rollouts, rollout_file

import advantage_zoo as az
from advantage_zoo.cli import main
from advantage_zoo.compare import compare
from advantage_zoo.compare.report import MAX_TOKENS, render

VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """Elements, texts and cells by table; refuses a page whose tags do not nest."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open, self.texts, self.titles = [], [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.titles += [value for name, value in attrs if name == "title"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes rollouts, compares them, and gives the page's HTML."""
    monkeypatch.setenv("ADVANTAGE_ZOO_PLUGINS", "none")

    def write(*words, **changes):
        source = rollout_file(tmp_path / "made.parquet", **changes)
        report = tmp_path / "out.html"
        result = CliRunner().invoke(main, ["compare", str(source), "--report", str(report), *words])
        assert result.exit_code == 0, result.output
        return report.read_text(encoding="utf-8")

    return write


def test_every_table_and_the_heat_map_are_there(written):
    text = written()
    page = Page(text)
    heads = re.findall(r"<h2[^>]*>([^<]*)</h2>", text)
    for head in ("Signal", "Polarity", "Cosine", "Sign agreement", "Diagnostics", "Provenance", "Token by token"):
        assert head in heads
    assert text.count("<article") == 4  # two of the mixed group, one of each dead one
    for name in ("grpo", "dr_grpo", "dapo", "ep_grpo"):
        assert text.count(name) > 6
    assert "⏎" in page.texts  # white space is visible
    assert "t3" in page.texts


def test_hovering_tells_the_numbers(written):
    titles = Page(written()).titles
    assert any(
        re.search(
            r"(?s)token 3: t3\nentropy \d\.\d{3} nats\nlog-ratio .*[+-]\d\.\d{3} nats\ngrpo: advantage -0\.577", t
        )
        for t in titles
    )


def test_provenance_says_where_it_comes_from(written, tmp_path):
    text = written("--set", "ep_grpo.num_buckets=7", "-e", "grpo,ep_grpo")
    assert hashlib.sha256((tmp_path / "made.parquet").read_bytes()).hexdigest() in text
    assert az.__version__ in text
    assert "num_buckets=7" in text
    assert "made by hand" in text
    assert "made.parquet" in text


def test_nothing_is_fetched_from_anywhere(written):
    text = written()
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert not [
        value for _, name, value in page.attributes if name in ("src", "href", "srcset", "action", "background")
    ]
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "url(" not in text
    assert "@import" not in text
    assert "http:" not in text
    assert "https:" not in text


NASTY = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "\x00\x1b[2J\u202e&amp;&#60;",
]


@pytest.mark.parametrize("nasty", NASTY)
def test_what_the_rollouts_hold_never_becomes_markup(written, nasty):
    plain = Page(written())
    tokens = [[nasty, *row[1:]] for row in made_rollouts().tokens]
    spoiled = written(
        tokens=tokens, prompts=[nasty] * 9, texts=[nasty] * 9, metadata={"model": nasty, nasty: nasty, "list": [nasty]}
    )
    page = Page(spoiled)
    assert [tag for tag in page.tags if tag not in ("tr", "th", "td")] == [
        tag for tag in plain.tags if tag not in ("tr", "th", "td")
    ]
    assert {name for _, name, _ in page.attributes} == {name for _, name, _ in plain.attributes}
    assert html.escape(nasty.replace("\x00\x1b[2J\u202e", ""), quote=False).replace("&#x27;", "'") in spoiled.replace(
        "&#39;", "'"
    ).replace("&#34;", '"')


def test_the_command_and_the_file_name_are_escaped(tmp_path):
    source = rollout_file(tmp_path / "<b>bold.parquet")
    done = compare(made_rollouts(), ["grpo"])
    text = render(done, source=source, command="advantage-zoo compare '<script>'")
    assert "<script" not in text
    assert "<b>" not in text


def test_colours_are_there_for_light_and_dark_and_their_scale_is_said(written):
    text = written()
    assert "prefers-color-scheme: dark" in text
    words = " ".join("".join(Page(text).texts).split())
    assert "largest |A|" in words
    assert re.search(r"grpo 0?\.577", words)  # the lane's scale, of 1, 0, 0 in a group of three


def only_tokens(rows):
    """Columns of rollouts of which nothing but the tokens is known."""
    unknown = ("logprobs", "ref_logprobs", "entropies", "step_index", "step_correct")
    return {"tokens": rows, "token_ids": [[0] * len(row) for row in rows], **dict.fromkeys(unknown)}


def test_a_long_response_is_cut_and_says_so(written):
    n = 3000
    rows = [["a"] * n, *made_rollouts().tokens[1:]]
    text = written("-e", "grpo", **only_tokens(rows), rewards=[0.0, 1.0, 1.0] * 3)
    assert f"the first {MAX_TOKENS} of {n} tokens" in " ".join(text.split())
    assert text.count("<td") < 20 * MAX_TOKENS
    assert "Polarity" not in text


def test_tokens_that_the_policy_did_not_emit_are_marked(written):
    mask = [[True] * (len(row) - 1) + [False] for row in made_rollouts().tokens]
    assert any("not emitted by the policy" in title for title in Page(written(response_mask=mask)).titles)


def test_rollouts_without_a_mixed_group_and_empty_responses_are_drawn(written):
    rows = [[]] * 3 + [["a", "b"]] * 6
    text = written("-e", "grpo", **only_tokens(rows), rewards=[1.0] * 9)
    assert text.count("<article") == 1

"""The HTML page: complete, self-contained, and safe whatever the rollouts hold. tests/browser/ drives it."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass

import numpy as np
import pytest
from click.testing import CliRunner
from made_rollouts import made_rollouts, only_tokens, rollout_file
from report_page import Page

import advantage_zoo as az
from advantage_zoo.cli import main
from advantage_zoo.compare import ComparisonError, compare, payload
from advantage_zoo.compare.report import render
from advantage_zoo.compare.texts import harmless

TERMS = ("outcome", "progress", "bonus")


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


def page_of(*estimators, source, **changes):
    """The page of made rollouts, and their comparison."""
    done = compare(made_rollouts(**changes), estimators)
    return Page(render(done, sources=[source], command="advantage-zoo compare")), done


@pytest.fixture
def source(tmp_path):
    return rollout_file(tmp_path / "made.parquet")


def test_every_view_is_there(written):
    page = Page(written())
    for head in ("The three failures", "Responses", "Agreement", "Cosine", "Sign", "Where the weight", "Provenance"):
        assert any(text.startswith(head) for text in page.heads), head
    for name in ("grpo", "dr_grpo", "dapo", "ep_grpo"):
        assert page.texts.count(name) >= 6  # failures, scale, both matrices twice, profiles, parameters
    views = {value for tag, name, value in page.attributes if name == "data-page"}
    assert views == {"summary", "responses", "agreement", "provenance"}


def test_the_charts_have_the_numbers_of_the_tables(written):
    text = written("-e", "grpo,ep_grpo")
    (row,) = re.findall(r'(?s)<tr><th scope="row">grpo</th>(.*?)</tr>', text.split("<tbody>")[1])
    numbers = re.findall(r'class="number">([^<]*)<', row)
    m = compare(made_rollouts(), ["grpo"]).results[0].metrics
    shares = [m.high_entropy_share, m.right_steps_punished.value, m.wrong_steps_rewarded.value]
    shares += [m.blame_on_wrong_steps, m.groups_without_signal.value, m.tokens_without_signal.value]
    assert numbers == ["-" if share is None else f"{100 * share:.1f} %" for share in shares]
    widths = re.findall(r"--v:([\d.]+)%;--r:([\d.]+)%", row)
    assert [float(v) for v, _ in widths] == pytest.approx([100 * (share or 0) for share in shares], abs=0.01)
    assert float(widths[0][1]) == pytest.approx(100 * m.high_entropy_tokens, abs=0.01)


def test_the_page_holds_every_token_and_advantage(source):
    page, done = page_of("grpo", "ep_grpo", source=source)
    packed, rollouts = page.responses, done.rollouts
    assert packed.header["rows"] == list(range(9))
    assert packed.header["rewards"] == rollouts.rewards
    assert [(group["id"], group["size"]) for group in packed.header["groups"]] == [(5, 3), (2, 3), (9, 3)]
    for row, tokens in enumerate(rollouts.tokens):
        assert packed.tokens(row) == ["⏎", *tokens[1:]]  # line ends are visible
        for result in done.results:
            values = packed.column(packed.lane(result.key))[row]
            np.testing.assert_allclose(values, result.values[row, : len(tokens)], rtol=1e-3)
    entropy = next(signal for signal in packed.header["signals"] if signal["name"] == "entropy")
    np.testing.assert_allclose(packed.column(entropy)[4], rollouts.entropies[4], rtol=1e-3)
    assert "rows" in packed.lane("grpo")  # one number a response will do
    assert packed.header["first"] == 2


def test_the_parts_of_ep_grpo_are_there_and_sum_up(source):
    page, done = page_of(("mine", az.estimators.EPGRPO(num_buckets=3)), source=source)
    packed = page.responses
    parts = {part["name"]: packed.column(part) for part in packed.lane("mine")["parts"]}
    assert list(parts) == ["gate", "bucket", "outcome", "progress"]
    for row, tokens in enumerate(done.rollouts.tokens):
        total = parts["outcome"][row] + parts["progress"][row]
        np.testing.assert_allclose(total, done.results[0].values[row, : len(tokens)], atol=2e-3)
        assert parts["bucket"][row].round(3).tolist() == sorted(parts["bucket"][row].round(3))  # progress never falls
        assert parts["bucket"][row][-1] == pytest.approx(2)
        assert (parts["gate"][row] > 0).all()


@dataclass(frozen=True)
class Told(az.estimators.GRPO):
    name = "told"
    told: str = az.param("fine", doc="What it says.")

    def explain(self, batch):
        ones = batch.xp.ones_like(batch.rewards)
        return {
            "fine": {"rows": ones * 2, "tokens": batch.to_tokens(ones) * 3},
            "nan": {"x": ones * float("nan")},
            "short": {"x": ones[:2]},
        }[self.told]


def test_what_a_plugin_explains_is_shown(source):
    page, _ = page_of("grpo", Told(), source=source)
    rows, tokens = page.responses.lane("told")["parts"]
    assert (rows["name"], rows["rows"]) == ("rows", [2.0] * 9)
    assert (tokens["name"], tokens["rows"]) == ("tokens", [3.0] * 9)


@pytest.mark.parametrize("told", ["nan", "short", "nothing of the kind"])
def test_what_a_plugin_explains_wrongly_is_refused_by_name(source, told):
    with pytest.raises(ComparisonError, match=r"told.explain failed \((ValueError|KeyError): "):
        page_of(Told(told=told), source=source)


def test_only_zero_is_zero(source):
    entropies = [np.array([1e-30] + [1.0] * (len(row) - 1), np.float32) for row in made_rollouts().tokens]
    page, _ = page_of("grpo", source=source, entropies=entropies)
    (entropy,) = [signal for signal in page.responses.header["signals"] if signal["name"] == "entropy"]
    assert all(column[0] > 0 for column in page.responses.column(entropy))


def test_numbers_far_below_the_largest_have_three_digits(source):
    entropies = [
        np.array([5.0, 1e-6, 1e-8] + [1.0] * len(row), np.float32)[: len(row)] for row in made_rollouts().tokens
    ]
    page, _ = page_of("grpo", source=source, entropies=entropies)
    (entropy,) = [signal for signal in page.responses.header["signals"] if signal["name"] == "entropy"]
    for mine, theirs in zip(page.responses.column(entropy), entropies, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-2)


@pytest.mark.parametrize("name", ["erpo", "ep_grpo", "entropy_advantage"])
def test_terms_sum_to_the_advantage(source, name):
    page, done = page_of(name, source=source)
    terms = [page.responses.column(part) for part in page.responses.lane(name)["parts"]]
    terms = [x for x, said in zip(terms, page.responses.lane(name)["parts"], strict=True) if said["name"] in TERMS]
    assert len(terms) == 2
    for row, tokens in enumerate(done.rollouts.tokens):
        np.testing.assert_allclose(terms[0][row] + terms[1][row], done.results[0].values[row, : len(tokens)], atol=2e-3)


def test_steps_and_masked_tokens_are_marked(source):
    mask = [[True] * (len(row) - 1) + [False] for row in made_rollouts().tokens]
    page, _ = page_of("grpo", source=source, response_mask=mask)
    flags = page.responses.flags(1)  # steps 0 0 1 1 -1: right, then wrong; the last token is masked
    assert flags.tolist() == [8 + 2, 2, 8 + 4, 4, 1]
    values = page.responses.column(page.responses.lane("grpo"))
    assert values[1][0] == pytest.approx(-0.57735, abs=1e-5)


def test_provenance_says_where_it_comes_from(written, tmp_path):
    text = written("--set", "ep_grpo.num_buckets=7", "-e", "grpo,ep_grpo", "--step", "3")
    page = Page(text)
    assert hashlib.sha256((tmp_path / "made.parquet").read_bytes()).hexdigest() in page.words
    for words in (az.__version__, "num_buckets=7", "made by hand", "made.parquet"):
        assert words in page.words
    assert '<th scope="row">Step</th><td>3</td>' in text


def test_nothing_is_fetched_from_anywhere_and_only_the_pages_own_script_runs(written):
    text = written()
    page = Page(text)
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(page.tags)
    places = [value for _, name, value in page.attributes if name in ("src", "href", "srcset", "action", "background")]
    assert places
    assert all(place.startswith("#") for place in places)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    for words in ("url(", "@import", "http:", "https:", "innerHTML", "eval(", "fetch(", "XMLHttpRequest"):
        assert words not in text
    data, script = page.scripts
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", data)
    (policy,) = [value for _, name, value in page.attributes if name == "content" and "default-src" in value]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy


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
    assert spoiled.count("</script") == 2
    assert nasty.replace("\x00\x1b[2J\u202e", "") in "".join(page.texts)  # in the provenance
    assert page.responses.tokens(0)[0] == harmless(nasty)
    assert page.responses.header["groups"][0]["prompt"] == harmless(nasty)


def test_the_command_and_the_file_name_are_escaped(tmp_path):
    source = rollout_file(tmp_path / "<b>bold.parquet")
    done = compare(made_rollouts(), ["grpo"], left_out={"<i>other": "needs <u>nothing"})
    page = Page(render(done, sources=[source], command="advantage-zoo compare '<em>'"))
    assert {"em", "b", "i", "u"} & set(page.tags) <= {"b", "i"}  # of the page itself
    assert "<b>bold.parquet" in page.words
    assert "<i>other" in page.words


def test_what_was_left_out_is_greyed_with_the_reason(written):
    text = written(entropies=None, ref_logprobs=None)
    (row,) = re.findall(r'<tr class="off"><th scope="row">ep_grpo</th><td colspan="\d">([^<]*)</td>', text)
    assert row == "not run: needs entropies and ref_logprobs, which these rollouts do not have"
    assert '<input type="checkbox" disabled> ep_grpo<' in text
    assert '<input type="checkbox" disabled> grpo<' not in text


def test_a_long_response_is_cut_and_says_so(written):
    n = payload.MAX_TOKENS + 5
    rows = [["a"] * n, *made_rollouts().tokens[1:]]
    page = Page(written("-e", "grpo", **only_tokens(rows), rewards=[0.0, 1.0, 1.0] * 3))
    assert f"Of 1 long responses the first {payload.MAX_TOKENS:,} tokens are drawn" in page.words
    assert page.responses.header["lengths"][0] == n
    assert page.responses.header["kept"][0] == payload.MAX_TOKENS
    assert "no labels of such steps, so it can't be told" in page.words
    assert "no entropies, so it can't be told" in page.words
    assert "The mark in a bar" not in page.words


def many(groups, size=2):
    """Rollouts of many small groups."""
    n = groups * size
    return {
        **only_tokens([["a", f"b{row}"] for row in range(n)]),
        "prompts": ["p"] * n,
        "texts": ["x"] * n,
        "rewards": [float(row % size) for row in range(n)],
        "groups": [row // size for row in range(n)],
    }


@pytest.mark.parametrize("limit", ["MAX_BYTES", "MAX_TEXT"])
def test_many_groups_are_sampled_evenly_and_it_says_so(written, monkeypatch, limit):
    monkeypatch.setattr(payload, limit, 4_000)
    text = written("-e", "grpo", **many(1000))
    page = Page(text)
    groups = [group["id"] for group in page.responses.header["groups"]]
    assert 10 < len(groups) < 990
    assert f"Drawn are {len(groups)} of 1,000 groups" in page.words
    gaps = np.diff(groups)
    assert gaps.max() <= 2 * np.median(gaps) + 1
    assert len(page.scripts[0]) <= 4_000 or limit == "MAX_BYTES"
    assert page.words.count("1,000") >= 2  # the facts are of all


def test_rollouts_without_a_mixed_group_and_empty_responses_are_drawn(written):
    rows = [[]] * 3 + [["a", "b"]] * 6
    page = Page(written("-e", "grpo", **only_tokens(rows), rewards=[1.0] * 9))
    assert page.responses.header["kept"] == [0] * 3 + [2] * 6


def test_nothing_but_empty_responses(written):
    page = Page(written("-e", "grpo", **only_tokens([[]] * 9)))
    assert page.responses.total == 0


def test_left_out_is_in_the_json_too(tmp_path, monkeypatch):
    monkeypatch.setenv("ADVANTAGE_ZOO_PLUGINS", "none")
    source = rollout_file(tmp_path / "bare.parquet", entropies=None)
    out = json.loads(CliRunner().invoke(main, ["compare", str(source), "--json"]).stdout)
    assert out["left_out"]["erpo"] == "needs entropies, which these rollouts do not have"

"""Whatever responses hold is shown as text, and thousands of them stay usable."""

import time

import numpy as np
import pytest
from made_rollouts import made_rollouts
from test_report import NASTY

import advantage_zoo as az
from advantage_zoo.compare.choosing import choose
from advantage_zoo.rollouts import RolloutDump, Rollouts, Tokens, read, read_rollouts, shipped_rollouts

from .test_browser import MINUS, cells, cells_text, written


def responses(*rows, **changes):
    """One group of these lists of tokens, rewards 0, 1, 0, 1 ..."""
    fields = {
        "prompts": ["p"] * len(rows),
        "texts": ["".join(row) for row in rows],
        "tokens": list(rows),
        "token_ids": [[0] * len(row) for row in rows],
        "rewards": [float(i % 2) for i in range(len(rows))],
        "groups": [0] * len(rows),
    }
    return Rollouts(**{**fields, **changes})


@pytest.mark.parametrize("nasty", NASTY)
def test_nothing_in_a_response_becomes_an_element_or_runs(show, tmp_path, nasty):
    rows = [[nasty, "b"], ["c", nasty]]
    rollouts = responses(*rows, prompts=[nasty] * 2, metadata={nasty: nasty, "notes": [nasty]})
    report, _ = written(tmp_path, rollouts, ["grpo"], left_out={nasty: nasty})
    page = show(report)
    shown = nasty.replace("\x00", "�").replace("\x1b", "�").replace("\u202e", "�")
    assert page.inner_text("#prompt") == shown
    assert shown in cells_text(page)
    page.locator(".col").first.hover()
    assert shown.replace(" ", "␣") in page.inner_text("#card")
    page.fill("#query", nasty)
    for key in "1234":
        page.keyboard.press("Escape")
        page.keyboard.press(key)
        assert page.locator("script").count() == 2
        assert page.locator("img, iframe, main svg[onload]").count() == 0
    assert page.evaluate("document.title") == "advantage-zoo: who gets credit"


def test_text_from_right_to_left_runs_from_right_to_left(show, tmp_path):
    report, _ = written(tmp_path, responses(["שלום", " ", "עולם"], ["hello", " world"]), ["grpo"])
    page = show(report, "responses?row=0")
    places = [box["x"] for box in (page.locator(".col").nth(i).bounding_box() for i in range(3))]
    assert places == sorted(places, reverse=True)
    page.keyboard.press("j")
    places = [box["x"] for box in (page.locator(".col").nth(i).bounding_box() for i in range(2))]
    assert places == sorted(places)


def test_cjk_emoji_and_byte_level_tokens_are_readable(show, tmp_path):
    rows = [["答案", "是", "👩‍🔬", "。"], ["Hello", "Ġworld", "Ċ", "å¥½"]]
    texts = ["答案是👩‍🔬。", "Hello world\n好"]
    report, _ = written(tmp_path, responses(*rows, texts=texts), ["grpo"])
    assert cells_text(show(report, "responses?row=0")) == "答案是👩‍🔬。"
    page = show(report, "responses?row=1")
    assert cells_text(page) == "Hello world⏎好"
    assert page.locator(".line").count() == 2  # a line of the response ends one on the page
    begins = show(written(tmp_path, responses(["a", "b", "\nc", "d"], ["e"]), ["grpo"])[0], "responses?row=0")
    assert begins.locator(".line").all_inner_texts()[1].split()[-2:] == ["⏎c", "d"]
    widths = [page.locator(".col").nth(i).bounding_box()["width"] for i in range(2)]
    assert widths[1] > widths[0]  # the columns take the room that their tokens need


def test_rewards_that_are_not_0_or_1_and_tool_output(show, tmp_path):
    mask = [[True, False], [True, True], [True, True]]
    rollouts = responses(["a", "tool"], ["b", "c"], ["d", "e"], rewards=[-0.25, 12.5, 3.0], response_mask=mask)
    report, done = written(tmp_path, rollouts, ["grpo"], threshold=3.0)
    page = show(report, "responses?row=0")
    assert page.locator("#siblings button").all_inner_texts() == ["✗ -0.25", "✓ 12.5", "✗ 3"]
    assert [colour for _, colour in cells(page, 0)] == ["n8", "masked"]
    page.locator(".col").nth(1).hover()
    assert "not emitted by the policy" in page.inner_text("#card")
    page.locator(".col").nth(0).hover()
    assert f"{done.results[0].values[0, 0]:.3g}".replace("-", MINUS) in page.inner_text("#card")


def test_a_response_without_tokens_says_so(show, tmp_path):
    report, _ = written(tmp_path, responses([], ["a"]), ["grpo"])
    assert "The response is empty." in show(report, "responses?row=0").inner_text("#tokens")


def test_a_long_response_is_drawn_in_parts(show, tmp_path):
    report, _ = written(tmp_path, responses([f"w{i} " for i in range(3600)], ["a"]), ["grpo", "dr_grpo"])
    page = show(report, "responses?row=0")
    assert page.locator(".col").count() == 2000
    assert "2,000 of 3,600 tokens are drawn" in page.inner_text("#rest")
    page.click("#more")
    assert page.locator(".col").count() == 3600
    assert page.inner_text("#rest") == ""
    assert page.evaluate("document.documentElement.scrollWidth") <= 1300
    deep = show(report, "responses?row=0&token=3000")
    assert "token 3000 of" in deep.inner_text("#card")


def test_a_thousand_groups_load_in_time_and_stay_small(show, tmp_path):
    """1,000 groups of 8 responses, every estimator that a file can feed, 256,000 tokens."""
    one = read_rollouts(shipped_rollouts())
    rng = np.random.default_rng(0)
    rows = [row for group in rng.integers(0, 128, 1000) for row in range(8 * group, 8 * group + 8)]
    names = [name for name, column in vars(one).items() if name not in ("groups", "metadata") and column is not None]
    columns = {name: [getattr(one, name)[row] for row in rows] for name in names}
    for name in ("entropies", "logprobs", "ref_logprobs"):  # no response twice, which would compress too well
        columns[name] = [x * rng.uniform(0.8, 1.2, len(x)) for x in columns[name]]
    rollouts = Rollouts(**columns, groups=[i // 8 for i in range(8000)])
    fed, _ = choose(rollouts.fields, "a file")
    report, _ = written(tmp_path, rollouts, fed)
    assert report.stat().st_size < 20e6
    begun = time.perf_counter()
    page = show(report)
    loaded = time.perf_counter() - begun
    assert loaded < 3, f"{loaded:.1f} s"
    assert page.locator("#groups li").count() == 1000
    assert page.locator("#responses .notice").count() == 0
    for action in (
        lambda: page.select_option("#sort", "disagreement"),
        lambda: page.select_option("#sort", "collapse"),
        lambda: page.fill("#query", "g+9"),
        lambda: page.keyboard.press("n"),
    ):
        begun = time.perf_counter()
        action()
        page.evaluate("0")
        assert time.perf_counter() - begun < 2
    print(f"{report.stat().st_size / 1e6:.1f} MB, {loaded:.2f} s")


def test_made_rollouts_fill_the_page(show, tmp_path):
    report, done = written(tmp_path, made_rollouts(), ["ep_grpo", "grpo"])
    assert cells_text(show(report, "responses?row=4")) == "⏎" + "".join(done.rollouts.tokens[4][1:])


def test_packed_responses_of_several_groups_are_shown_one_by_one(show, tmp_path):
    """A trainer's packed batch, cut by cu_seqlens: whose tokens are whose, with tool output between them."""
    words = [["<pad>"], ["a", " b", " c"], ["d"], ["e", " f"], ["g", " h", " i", " j"], ["k"]]
    known = list(dict.fromkeys(word for response in words for word in response))

    class Words:
        def decode(self, ids, skip_special_tokens=False):
            return "".join(known[i] for i in ids if i or not skip_special_tokens)

    lengths = np.array([len(response) for response in words])
    flat = np.array([known.index(word) for response in words for word in response])
    mask = np.ones(len(flat), dtype=bool)
    mask[0], mask[2] = False, False  # a response of padding, and a tool's output
    batch = az.RolloutBatch.packed(
        cu_seqlens=np.cumsum([0, *lengths]),
        response_mask=mask,
        rewards=np.array([0.0, 1.0, 0.0, 0.0, 1.0, 1.0]),
        group_ids=np.array([0, 1, 0, 1, 0, 2]),
        entropies=np.linspace(0.1, 1.2, len(flat)),
    )
    dump = RolloutDump(tmp_path / "run", Words(), source="tests")
    prompts = [f"prompt {group}" for group in batch.group_ids]
    dump.write(batch, step=3, prompts=prompts, responses=Tokens(flat, np.ones(len(flat), dtype=bool)))
    dump.flush()
    rollouts, _ = read(tmp_path / "run")
    report, _ = written(tmp_path, rollouts, ["grpo", "gtpo"])
    expected = az.compute_advantages(batch, "gtpo").values  # packed as it was
    start = np.cumsum([0, *lengths])
    for at, (row, group) in enumerate([(1, 1), (2, 0), (3, 1), (4, 0), (5, 2)]):
        page = show(report, f"responses?row={at}&lane=gtpo&token=0")
        assert page.inner_text("#prompt") == f"prompt {group}"
        assert f"{len(words[row])} token" in page.inner_text("#heading")
        assert cells_text(page) == "".join(words[row])
        drawn = page.locator(".col > span:nth-child(2)")
        colours = [drawn.nth(i).get_attribute("class") for i in range(drawn.count())]
        for i, colour in enumerate(colours):
            value = expected[start[row] + i]
            wanted = "masked" if not mask[start[row] + i] else "z" if value == 0 else "p" if value > 0 else "n"
            assert colour.startswith(wanted), (row, i, colour, value)
        told = page.locator("#card tbody td").first
        if mask[start[row]]:
            assert float(told.inner_text().replace("\N{MINUS SIGN}", "-")) == pytest.approx(
                expected[start[row]], rel=2e-3
            )

"""Scripts of all directions, letters in several tokens, many lanes, large groups: what a reader finds and sees."""

import pytest
from made_rollouts import made_rollouts

from advantage_zoo.compare.choosing import choose
from advantage_zoo.rollouts import read_rollouts, shipped_rollouts

from .test_browser import written
from .test_contents import responses

ARABIC, DIGITS, MIXED = ["عدد", " ", "1", "2", "3", " ", "نعم"], ["G", "PT"], ["the ", "word ", "ال", "جو", "اب", " is"]


def places(page, texts):
    """Where the tokens of these texts begin, from the left."""
    drawn = page.eval_on_selector_all(
        ".col", "(cols) => cols.map((col) => [col.children[1].textContent, col.getBoundingClientRect().x])"
    )
    found = dict(drawn)
    return [found[text] for text in texts]


@pytest.mark.parametrize(
    ("tokens", "from_left"),
    [
        (["<think>", "\n", "مر", "حبا", "</think>"], ["حبا", "مر"]),
        (ARABIC, ["نعم", "1", "2", "3", "عدد"]),
        ([*ARABIC, " ", *DIGITS], ["G", "PT", "نعم", "1", "2", "3", "عدد"]),
        (MIXED, ["the ", "word ", "اب", "جو", "ال", " is"]),
    ],
)
def test_runs_of_tokens_are_drawn_in_the_direction_of_their_script(show, tmp_path, tokens, from_left):
    page = show(written(tmp_path, responses(tokens, ["a"]), ["grpo"])[0], "responses?row=0")
    found = places(page, from_left)
    assert found == sorted(found)
    order = page.eval_on_selector_all(".col", "(cols) => cols.map((col) => Number(col.dataset.token))")
    assert order == sorted(order)  # keys and screen readers go through them as they were said


def test_letters_are_found_whatever_tokens_they_are_made_of(show, tmp_path):
    rows = [["é", "¾", "ĺ", "Ġx"], ["ก", "\u0e31", "น"], ["第一\u3000", "題", "\u200b", "段"]]
    texts = ["龘 x", "กัน", "第一\u3000題\u200b段"]
    rollouts = responses(*rows, texts=texts, prompts=["p", "q", "r"], groups=[0, 1, 2])
    page = show(written(tmp_path, rollouts, ["grpo"])[0], "responses?row=0")
    for query, row in (("龘 X", 0), ("กัน", 1), ("第一\u3000題段", 2)):
        page.fill("#query", query)
        assert page.inner_text("#found") == "1 of 3 groups"
        page.keyboard.press("Enter")
        assert f"row {row}:" in page.inner_text("#heading")
        assert page.locator(".col.hit").count() >= 1


def test_rewards_are_shown_as_they_are(show, tmp_path):
    rewards = [1001.0, 1004.0, 99.96, 0.00012, -0.0001, 1234567.0]
    page = show(written(tmp_path, responses(*[["a"]] * 6, rewards=rewards), ["grpo"])[0], "responses?row=0")
    found = [text.split()[1] for text in page.locator("#siblings button").all_inner_texts()]
    assert found == ["1,001", "1,004", "99.96", "0.00012", "-0.0001", "1,234,567"]


def test_the_card_stays_on_the_screen_and_comes_back_to_the_chosen_token(show, tmp_path):
    rollouts = read_rollouts(shipped_rollouts())
    names, _ = choose(rollouts.fields, "shipped", [])
    page = show(written(tmp_path, rollouts, names)[0], "responses")
    for box in page.locator("#boxes input").all():
        box.check()
    for at in (0, 7, 3):
        page.locator(".col").nth(at).hover()
        card, token = page.locator("#card").bounding_box(), page.locator(".col").nth(at).bounding_box()
        assert card["y"] >= 0
        assert card["y"] + card["height"] <= page.viewport_size["height"]
        beside = card["x"] >= token["x"] + token["width"] or card["x"] + card["width"] <= token["x"]
        assert beside or card["y"] >= token["y"] + token["height"] or card["y"] + card["height"] <= token["y"]
    for box in page.locator("#boxes input").all():
        box.uncheck()
    page.locator(".col").nth(2).click()
    page.locator(".col").nth(4).hover()
    assert "token 4 of" in page.inner_text("#card")
    page.hover("h1")
    assert "token 2 of" in page.inner_text("#card")
    again = show(tmp_path / "report.html", page.evaluate("location.hash").removeprefix("#"))
    assert again.locator("#boxes input:checked").count() == 0


def test_keys_reach_the_content_and_the_list(show, tmp_path):
    page = show(written(tmp_path, made_rollouts(), ["grpo"])[0], "responses")
    page.focus(".skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "responses"
    assert page.locator("section:visible").get_attribute("id") == "responses"
    chosen = page.locator("#groups [aria-selected=true]").inner_text()
    prompts = [text for text in page.locator("#groups .name").all_inner_texts() if text not in chosen]
    page.fill("#query", prompts[0])
    assert page.locator("#groups [aria-selected=true]").count() == 0
    assert page.locator("#groups [tabindex='0']").count() == 1


def test_a_response_has_its_own_prompt(show, tmp_path):
    prompts = ["turn 0", "turn 1, needle"]
    page = show(written(tmp_path, responses(["a"], ["b"], prompts=prompts), ["grpo"])[0], "responses?row=0")
    assert page.inner_text("#prompt") == "turn 0"
    page.fill("#query", "needle")
    assert page.inner_text("#found") == "1 of 1 groups"
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    assert page.inner_text("#prompt") == "turn 1, needle"


def test_of_a_very_large_group_a_thousand_responses_are_drawn(show, tmp_path):
    report, _ = written(tmp_path, responses(*[["a", "b"]] * 3000), ["grpo"])
    page = show(report, "responses?row=2999")
    assert page.locator("#siblings button").count() == 1000
    assert "row 2999:" in page.inner_text("#heading")
    assert "Of 1 large group 1,000 responses are drawn, evenly spaced." in page.inner_text("#responses")

"""The order of tokens on a line against the browser's own, and cards and numbers that are out of the ordinary."""

import random

import numpy as np
import pytest

from advantage_zoo.compare.choosing import choose
from advantage_zoo.rollouts import read_rollouts, shipped_rollouts

from .test_browser import MINUS, cells, written
from .test_contents import responses

SCRIPTS = {
    "hebrew": ["שלום", " עולם", "של", "1", " 2", "34", ".", ",", "-", " ", "abc", " def", "G", "PT", "?"],
    "arabic": ["الجواب", " هو", "ال", "1", " 2", "34", ".", ",", " ", "abc", " def", "G", "PT", "؟"],
}

AS_TEXT = """(cols) => {
  const line = document.createElement("div"), drawn = [...document.querySelectorAll(".col")];
  const middle = (box) => box.x + box.width / 2;
  Object.assign(line.style, { whiteSpace: "pre", width: "40rem", font: "20px monospace" });
  line.dir = document.querySelector(".cols").dir;
  line.textContent = drawn.map((column) => column.children[1].textContent).join("");
  document.body.append(line);
  let from = 0;
  const boxes = drawn.map((column) => {
    const text = column.children[1].textContent, range = document.createRange();
    range.setStart(line.firstChild, from + text.length - (text.trimStart() || text).length);
    range.setEnd(line.firstChild, from += text.length);
    return range.getBoundingClientRect();
  });
  line.remove();
  const order = (all) => all.map((box, i) => [middle(box), i]).sort((a, b) => a[0] - b[0]).map((one) => one[1]);
  return [order(drawn.map((column) => column.getBoundingClientRect())), order(boxes)];
}"""


def seen(page, row):
    page.evaluate("(row) => choose(row)", row)
    return page.evaluate(AS_TEXT)


@pytest.mark.parametrize("script", SCRIPTS)
def test_tokens_are_where_the_browser_would_have_them_in_a_text(show, tmp_path, script):
    rng = random.Random(0)
    rows = [[rng.choice(SCRIPTS[script]) for _ in range(rng.randint(2, 9))] for _ in range(150)]
    rows = [[*row, rng.choice(["end", "שם"])] for row in rows]  # no space at the end, which a browser puts anywhere
    page = show(written(tmp_path, responses(*rows), ["grpo"])[0], "responses?row=0")
    directions = set()
    for row, tokens in enumerate(rows):
        drawn, text = seen(page, row)
        directions.add(page.get_attribute(".cols", "dir"))
        assert drawn == text, tokens
    assert directions == {"ltr", "rtl"}


def test_a_tag_before_a_paragraph_from_right_to_left(show, tmp_path):
    report, _ = written(tmp_path, responses(["think", "\nשל\u05d5ם", " של", "</b>"], ["a"]), ["grpo"])
    page = show(report, "responses?row=0")
    assert [page.locator(".cols").nth(i).get_attribute("dir") for i in range(2)] == ["ltr", "rtl"]
    assert page.locator(".col").nth(3).locator("span").nth(1).get_attribute("dir") == "ltr"  # or it would read <b/>


def test_all_bytes_of_a_letter_are_marked_and_read_from_left_to_right(show, tmp_path):
    rows = [["\xd7", "©", "\xd7", "ķ", "Ġ", "\xd7", "ª"], ["a"]]  # three letters and a space, byte by byte
    rollouts = responses(*rows, texts=["ש\u05d5 ת", "a"])
    page = show(written(tmp_path, rollouts, ["grpo"])[0], "responses?row=0&query=ש")
    assert [text for text, _ in cells(page, 0)] == ["\\xd7", "\\xa9", "\\xd7", "\\x95", " ", "\\xd7", "\\xaa"]
    assert page.get_attribute(".cols", "dir") == "rtl"
    assert page.eval_on_selector_all(".col.hit", "(all) => all.map((col) => col.dataset.token)") == ["0", "1"]
    assert page.get_attribute(".col span:nth-child(2)", "dir") == "ltr"


def test_a_card_that_is_too_long_for_the_window_is_in_two_columns(show, tmp_path):
    rollouts = read_rollouts(shipped_rollouts())
    report, _ = written(tmp_path, rollouts, choose(rollouts.fields, "a file")[0])
    page = show(report, height=500)
    for box in page.locator("#boxes input").all():
        box.check()
    page.locator(".col").nth(14).hover()
    card = page.locator("#card").bounding_box()
    assert card["x"] >= 0
    assert card["y"] >= 0
    assert card["x"] + card["width"] <= 1300
    assert card["y"] + card["height"] <= 500
    places = [row.bounding_box() for row in page.locator("#card tbody tr").all()]
    assert places[-1]["x"] > places[0]["x"]
    assert max(place["y"] + place["height"] for place in places) <= card["y"] + card["height"]


def test_numbers_of_any_size_are_told_apart(show, tmp_path):
    rewards = [1001.0, 1004.0, float(np.float32(0.3)), 2e-9]
    page = show(written(tmp_path, responses(*[["a"]] * 4, rewards=rewards, groups=[0, 0, 1, 1]), ["rloo"])[0])
    told = []
    for row in range(4):
        page.evaluate("(row) => choose(row)", row)
        page.locator(".col").first.hover()
        told.append(page.locator("#card .parts").inner_text().split("mean")[0].strip())
        page.mouse.move(5, 5)
    assert told == ["reward 1001", "reward 1004", "reward 0.3", f"reward 2e{MINUS}9"]
    assert page.locator("#siblings button").all_inner_texts() == ["✗ 0.3", "✗ 2e-9"]
    small = responses(["a"], ["b"], rewards=[2e-9, 5e-9])
    label = show(written(tmp_path, small, ["rloo"])[0]).locator(".labels span").first
    assert label.inner_text() == "3e-9"

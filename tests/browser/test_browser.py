"""The report as a reader has it: views, hover, search, keys, addresses, in a real browser."""

import re

import numpy as np
import pytest
from made_rollouts import made_rollouts, rollout_file

from advantage_zoo.compare import compare
from advantage_zoo.compare.report import write_report
from advantage_zoo.rollouts import read_rollouts, shipped_rollouts

MINUS = "\N{MINUS SIGN}"
NAMES = ("grpo", "dr_grpo", "gtpo", "ep_grpo")


def written(folder, rollouts, names=NAMES, **options):
    source = rollout_file(folder / "made.parquet")
    done = compare(rollouts, names, **options)
    write_report(done, folder / "report.html", sources=[source], command="advantage-zoo compare")
    return folder / "report.html", done


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The report of the rollouts in the package, and the comparison."""
    return written(tmp_path_factory.mktemp("shipped"), read_rollouts(shipped_rollouts()))


def cells(page, lane):
    """Texts and classes of a lane's cells, in order."""
    return page.eval_on_selector_all(
        ".col", "(cols, k) => cols.map((col) => [col.children[k + 1].textContent, col.children[k + 1].className])", lane
    )


def test_views_are_chosen_by_click_and_by_key_and_have_addresses(show, shipped):
    page = show(shipped[0], "")
    assert page.locator("section:visible").get_attribute("id") == "summary"
    for number, view in enumerate(("summary", "responses", "agreement", "provenance"), 1):
        page.click(f"nav >> text={view.capitalize()}")
        page.wait_for_selector(f"nav [data-view={view}][aria-current]")  # told of the address in its own time
        assert page.locator("section:visible").get_attribute("id") == view
        assert page.evaluate("location.hash").startswith(f"#{view}")
        assert page.locator("nav [aria-current]").inner_text().lower() == view
        page.keyboard.press("1" if number > 1 else "2")
        page.keyboard.press(str(number))
        assert page.locator("section:visible").get_attribute("id") == view
        assert page.evaluate("scrollY") == 0


def test_it_opens_with_the_telling_failure_and_colours_every_token(show, shipped):
    report, done = shipped
    page = show(report)
    row = int(re.search(r"row (\d+)", page.inner_text("#heading"))[1])
    tokens = done.rollouts.tokens[row]
    for lane, result in enumerate(done.results):
        drawn, values = cells(page, lane), result.values[row]
        assert "".join(text for text, _ in drawn) == "".join(tokens)
        largest = np.abs(values).max()
        for (_, colour), value in zip(drawn, values, strict=False):
            wanted = "z" if value == 0 else ("p" if value > 0 else "n")
            assert colour[0] == wanted
            if value:
                assert abs(int(colour[1:]) - abs(value) / largest * 8) <= 1.01
    assert page.locator(".labels b").all_inner_texts()[: len(NAMES)] == list(NAMES)
    correct = done.rollouts.step_correct[row]
    marks = [mark for mark in page.locator(".col .mark").all_inner_texts() if mark.strip()]
    assert marks == [{True: "r", False: "x", None: "?"}[verdict] for verdict in correct]
    assert page.locator(".col.begins").count() == len(correct)


def parts_of(page, name, *names):
    """What the card says that an estimator's advantage is made of."""
    said = page.locator(f"#card tr:has(th:text-is('{name}')) .parts").inner_text().replace(MINUS, "-")
    found = re.fullmatch(" ".join(rf"{part} (\S+)" for part in names), " ".join(said.split()))
    return dict(zip(names, map(float, found.groups()), strict=True))


def test_hovering_tells_the_numbers_of_the_token(show, shipped):
    report, done = shipped
    page = show(report)
    row = int(re.search(r"row (\d+)", page.inner_text("#heading"))[1])
    page.locator(".col").nth(7).hover()
    card = page.inner_text("#card")
    assert f"token 7 of {len(done.rollouts.tokens[row])}" in card
    told = dict(
        re.findall(r"(entropy|log-probability|log-ratio to the reference) (\S+) nats", card.replace(MINUS, "-"))
    )
    ratio = done.rollouts.logprobs[row][7] - done.rollouts.ref_logprobs[row][7]
    assert float(told["entropy"]) == pytest.approx(done.rollouts.entropies[row][7], rel=2e-3)
    assert float(told["log-ratio to the reference"]) == pytest.approx(ratio, rel=2e-3)
    assert page.locator("#card thead th").all_inner_texts() == ["estimator", "advantage", "made of"]
    for result in done.results:
        cell = page.locator(f"#card tr:has(th:text-is('{result.key}')) td").first.inner_text()
        assert float(cell.replace(MINUS, "-")) == pytest.approx(result.values[row, 7], rel=2e-3)
    parts = parts_of(page, "ep_grpo", "gate", "bucket", "outcome", "progress")
    assert parts["outcome"] + parts["progress"] == pytest.approx(done.results[3].values[row, 7], rel=1e-2)
    rewards = np.array(done.rollouts.rewards)
    group = rewards[np.array(done.rollouts.groups) == done.rollouts.groups[row]]
    assert parts_of(page, "grpo", "reward", "group mean", "group deviation") == {
        "reward": pytest.approx(rewards[row], abs=1e-9),
        "group mean": pytest.approx(group.mean(), rel=2e-3),
        "group deviation": pytest.approx(group.std(ddof=1), rel=2e-3),
    }
    assert page.locator(".col.on").count() == 1
    page.mouse.move(5, 5)
    assert page.locator("#card").is_hidden()


def order(page):
    return [int(x) for x in page.eval_on_selector_all("#groups li", "(all) => all.map((li) => li.dataset.group)")]


def test_groups_are_sorted_by_disagreement_collapse_and_length(show, shipped):
    report, done = shipped
    groups = np.unique(done.rollouts.groups, return_inverse=True)[1]
    count = groups.max() + 1
    page = show(report)
    assert order(page) == list(range(count))

    page.select_option("#sort", "disagreement")
    page.select_option("#one", label="gtpo")
    page.select_option("#two", label="ep_grpo")
    values = {result.key: result.values for result in done.results}

    def disagreement(group):
        a, b = (values[name][groups == group].ravel() for name in ("gtpo", "ep_grpo"))
        size = np.linalg.norm(a) * np.linalg.norm(b)
        return 1 - a @ b / size if size else float(bool(np.any(a) or np.any(b)))

    found = [disagreement(group) for group in order(page)]
    assert found == pytest.approx(sorted(found, reverse=True), abs=1e-3)
    assert page.locator("#groups .fact").first.inner_text() == f"disagreement {found[0]:.3f}"
    assert page.locator("#groups [aria-selected=true]").get_attribute("data-group") == str(order(page)[0])

    page.select_option("#sort", "collapse")
    silent = [sum(not x[groups == group].any() for x in values.values()) for group in order(page)]
    assert silent == sorted(silent, reverse=True)
    assert silent[0] == 2  # grpo and dr_grpo
    assert page.locator("#groups .fact").first.inner_text() == "2 of 4 estimators without signal"

    page.select_option("#sort", "length")
    lengths = np.array([len(tokens) for tokens in done.rollouts.tokens])
    means = [lengths[groups == group].mean() for group in order(page)]
    assert means == sorted(means, reverse=True)


def test_search_finds_prompts_and_responses_and_marks_the_tokens(show, shipped):
    report, done = shipped
    page = show(report)
    page.keyboard.press("/")
    page.keyboard.type("G+9=")
    rollouts = done.rollouts
    texts = ["".join(tokens) for tokens in rollouts.tokens]
    wanted = {g for g, p, t in zip(rollouts.groups, rollouts.prompts, texts, strict=True) if "g+9=" in t or "g+9=" in p}
    assert 0 < len(wanted) < 128
    assert page.inner_text("#found") == f"{len(wanted)} of 128 groups"
    page.keyboard.press("Enter")
    assert page.locator("#siblings [aria-pressed=true].hit").count() == 1
    marked = page.eval_on_selector_all(".col.hit", "(all) => all.map((col) => col.children[1].textContent)")
    assert "".join(marked[:4]) == "g+9="
    page.fill("#query", "no such text <b>")
    assert page.inner_text("#found") == "0 of 128 groups"
    page.fill("#query", "")
    assert page.inner_text("#found") == "128 groups"


def heading(page):
    group, row = re.search(r"Group (-?\d+), row (\d+)", page.inner_text("#heading")).groups()
    return int(group), int(row)


def test_the_keyboard_reaches_everything(show, shipped):
    page = show(shipped[0])
    group, _ = heading(page)
    page.keyboard.press("n")
    assert heading(page) == (group + 1, 8 * (group + 1))
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert heading(page)[1] == 8 * (group + 1) + 1
    page.keyboard.press("p")
    assert heading(page)[0] == group
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert "token 1 of" in page.inner_text("#card")
    assert page.evaluate("document.activeElement.dataset.token") == page.locator(".col.on").get_attribute("data-token")
    assert "token 1 of" in page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("Escape")
    assert page.locator("#card").is_hidden()
    page.locator("#groups [aria-selected=true]").focus()
    page.keyboard.press("ArrowDown")
    assert heading(page)[0] == group + 1
    assert page.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"
    page.keyboard.press("/")
    page.keyboard.type("n4")  # letters, not commands
    assert page.input_value("#query") == "n4"
    assert page.locator("section:visible").get_attribute("id") == "responses"


def test_every_control_is_reached_with_the_tab_key_and_shows_its_focus(show, shipped):
    page = show(shipped[0])
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        if page.evaluate("document.activeElement !== document.body"):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert {"query", "sort", "LI", "BUTTON", "INPUT", "DIV", "link", "prompt"} <= seen


def test_a_link_opens_the_same_view(show, shipped):
    page = show(shipped[0])
    page.select_option("#sort", "disagreement")
    page.select_option("#two", label="gtpo")
    page.fill("#query", "g+9")
    page.locator("#lanes label:has-text('dr_grpo') input").uncheck()
    page.locator("#groups li").nth(2).click()
    page.locator("#siblings button").nth(5).click()
    page.locator(".col").nth(9).click()
    link = page.get_attribute("#link", "href")
    assert link == page.evaluate("location.hash")

    def seen(view):
        view.locator("#card").wait_for()
        parts = ("#heading", "#card", "#found", "#groups", "#tokens", "#siblings")
        return [view.inner_text(part) for part in parts] + [view.input_value(f"#{i}") for i in ("query", "one", "two")]

    assert seen(show(shipped[0], link[1:])) == seen(page)


@pytest.mark.parametrize("view", ["responses?row=99999&token=-4&lane=none&sort=__proto__&between=x", "nonsense", "%"])
def test_a_link_to_what_is_not_there_opens_something(show, shipped, view):
    page = show(shipped[0], view)
    assert page.locator("section:visible").count() == 1


def test_without_scripts_the_numbers_are_there(show, shipped):
    page = show(shipped[0], "", ready=False, java_script_enabled=False)
    for words in ("59.8 %", "Where the weight falls", "SHA-256", "a script in the page"):
        assert page.get_by_text(words).first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["summary", "responses", "agreement", "provenance"])
def test_axe_finds_nothing_to_mend(show, shipped, view, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = show(shipped[0], view, color_scheme=scheme)
    if view == "responses":
        page.locator(".col").nth(3).hover()
    results = axe.Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


def test_axe_finds_what_is_to_mend(show, shipped):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = show(shipped[0])
    page.evaluate("document.querySelector('[for=query]').remove(); one('heading').style.color = '#ddd'")
    assert {found["id"] for found in axe.Axe().run(page).response["violations"]} == {"color-contrast", "label"}


def test_light_and_dark_follow_the_browser(show, shipped):
    pages = [show(shipped[0], color_scheme=scheme) for scheme in ("light", "dark")]
    backs = [page.evaluate("getComputedStyle(document.body).backgroundColor") for page in pages]
    assert backs[0] != backs[1]
    weak = [page.evaluate("getComputedStyle(document.querySelector('.p1')).backgroundColor") for page in pages]
    assert weak[0] != weak[1]


@pytest.mark.parametrize("width", [360, 800])
@pytest.mark.parametrize("view", ["summary", "responses", "agreement", "provenance"])
def test_a_narrow_window_scrolls_in_one_direction_only(show, shipped, view, width):
    page = show(shipped[0], view, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_what_was_left_out_is_grey_and_says_why(show, tmp_path):
    reasons = {"erpo": "needs entropies, which these rollouts do not have"}
    report, _ = written(tmp_path, made_rollouts(entropies=None), ["grpo"], left_out=reasons)
    page = show(report)
    label = page.locator("#lanes label:has-text('erpo')")
    assert label.locator("input").is_disabled()
    assert reasons["erpo"] in label.locator("..").inner_text()
    page.keyboard.press("1")
    assert page.locator("tr.off:visible").first.inner_text().endswith(reasons["erpo"])
    assert made_rollouts().tokens[0][1] in cells_text(show(report))


def cells_text(page):
    return "".join(text for text, _ in cells(page, 0))

// The list of groups: search, order, and which is chosen.

const SORTS = {
  file: { key: (group) => group.g },
  disagreement: {
    key: (group) => -rollouts.disagreement(group, rollouts.lanes[state.one], rollouts.lanes[state.two]),
    fact: (group) => `disagreement ${rollouts.disagreement(group, rollouts.lanes[state.one], rollouts.lanes[state.two]).toFixed(3)}`,
  },
  collapse: {
    key: (group) => -rollouts.collapse(group),
    fact: (group) => `${rollouts.collapse(group)} of ${rollouts.lanes.length} estimators without signal`,
  },
  length: { key: (group) => -rollouts.length(group), fact: (group) => `${round(rollouts.length(group))} tokens on average` },
};

let rollouts, listed = [];

function round(x, digits = 3) {
  const short = Number(x.toPrecision(digits));
  return Math.abs(short) < 1e-6 ? String(short) : short.toLocaleString("en", { maximumSignificantDigits: digits });
}
function exact(x) { return round(x, 7); } // a float32 has no more: 0.3 is not 0.30000001
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null)); // strings become text, never markup
  return made;
}
function counted(n, word) { return `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`; }
function one(id) { return document.getElementById(id); }

function hit(r) { return state.query !== "" && rollouts.wording(r).includes(state.query.toLowerCase()); }

function inPrompt(r) { return rollouts.prompt(r).toLowerCase().includes(state.query.toLowerCase()); }

function found(group) {
  for (let r = group.first; r < group.end; r++) if (hit(r) || inPrompt(r)) return true;
  return false;
}

function orderGroups() {
  const { key } = SORTS[state.sort];
  const keys = new Map(rollouts.groups.map((group) => [group, key(group)]));
  listed = rollouts.groups.filter(found).sort((a, b) => keys.get(a) - keys.get(b) || a.g - b.g);
}

function drawGroups() {
  orderGroups();
  const { fact } = SORTS[state.sort];
  const there = listed.some((group) => group.g === rollouts.groupOf[state.response]);
  one("groups").replaceChildren(...listed.map((group, k) => {
    const rows = Array.from({ length: group.size }, (_, k) => group.first + k);
    const right = rows.filter((r) => rollouts.successful(r)).length;
    const chosen = group.g === rollouts.groupOf[state.response];
    return element("li", { role: "option", "data-group": group.g, "aria-selected": chosen, tabindex: chosen || (!there && k === 0) ? 0 : -1 },
      element("span", { class: "name", dir: "auto" }, group.prompt.replace(/\s+/g, " ").slice(0, 120) || "(empty prompt)"),
      element("span", { title: `${right} of ${group.size} responses successful` }, `${right}/${group.size}`),
      fact ? element("span", { class: "fact" }, fact(group)) : null);
  }));
  const all = rollouts.groups.length;
  one("found").textContent = state.query ? `${listed.length} of ${all} groups` : counted(all, "group");
  one("pair").hidden = state.sort !== "disagreement";
}

function markGroup(scroll) {
  const g = rollouts.groupOf[state.response], there = listed.some((group) => group.g === g);
  for (const [k, item] of [...one("groups").children].entries()) {
    const chosen = Number(item.dataset.group) === g;
    if ((item.getAttribute("aria-selected") === "true") !== chosen) item.setAttribute("aria-selected", chosen);
    item.tabIndex = chosen || (!there && k === 0) ? 0 : -1; // the list can always be reached
    if (chosen && scroll) item.scrollIntoView({ block: "nearest", behavior: "instant" });
  }
}

function drawSiblings() {
  const group = rollouts.groups[rollouts.groupOf[state.response]];
  one("heading").textContent = `Group ${group.id}, row ${rollouts.rows[state.response]}: reward ${exact(rollouts.rewards[state.response])}, ${counted(rollouts.lengths[state.response], "token")}`;
  one("prompt").textContent = rollouts.prompt(state.response) || "(empty prompt)";
  one("siblings").replaceChildren(...Array.from({ length: group.size }, (_, k) => {
    const r = group.first + k, good = rollouts.successful(r);
    return element("button", { type: "button", "data-response": r, "aria-pressed": r === state.response, class: hit(r) ? "hit" : null,
      title: `row ${rollouts.rows[r]}, ${counted(rollouts.lengths[r], "token")}, ${good ? "successful" : "failed"}` },
      `${good ? "✓" : "✗"} ${exact(rollouts.rewards[r])}`);
  }));
}

function stepGroup(by) {
  if (!listed.length) return;
  const at = listed.findIndex((group) => group.g === rollouts.groupOf[state.response]);
  const next = at < 0 ? 0 : Math.min(Math.max(at + by, 0), listed.length - 1);
  choose(firstOf(listed[next]));
}

function firstOf(group) { // the first response that the search finds
  for (let r = group.first; r < group.end; r++) if (hit(r)) return r;
  return group.first;
}

function stepResponse(by) {
  const group = rollouts.groups[rollouts.groupOf[state.response]];
  choose(Math.min(Math.max(state.response + by, group.first), group.end - 1));
}

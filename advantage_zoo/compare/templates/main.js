// What is shown, its address, the keys.

const VIEWS = ["summary", "responses", "agreement", "provenance"];
const state = { view: "summary", response: 0, token: null, sort: "file", one: 0, two: 0, query: "", lanes: [] };

function address() {
  if (state.view !== "responses") return `#${state.view}`;
  const words = new URLSearchParams({ row: rollouts.rows[state.response] });
  if (state.token !== null) words.set("token", state.token);
  if (state.query) words.set("query", state.query);
  if (state.sort !== "file") words.set("sort", state.sort);
  if (state.sort === "disagreement") for (const at of [state.one, state.two]) words.append("between", rollouts.lanes[at].name);
  for (const name of state.lanes.length ? state.lanes.map((at) => rollouts.lanes[at].name) : [""]) words.append("lane", name);
  return `#responses?${words}`;
}

function remember() {
  if (!rollouts) return; // the address still says what to show once they are unpacked
  history.replaceState(null, "", address());
  one("link").setAttribute("href", address());
}

function recall() {
  const [view, words] = location.hash.slice(1).split("?", 2);
  state.view = VIEWS.includes(view) ? view : "summary";
  if (!rollouts || !words) return;
  const said = new URLSearchParams(words), named = (name) => rollouts.lanes.findIndex((lane) => lane.name === name);
  const r = rollouts.rows.indexOf(Number(said.get("row")));
  if (said.has("row") && r >= 0) state.response = r;
  const token = Number(said.get("token"));
  state.token = said.has("token") && token >= 0 && token < rollouts.kept[state.response] ? token : null;
  state.query = said.get("query") ?? "";
  state.sort = Object.hasOwn(SORTS, said.get("sort")) ? said.get("sort") : "file";
  const pair = said.getAll("between").map(named).filter((at) => at >= 0);
  if (pair.length === 2) [state.one, state.two] = pair;
  if (said.has("lane")) state.lanes = said.getAll("lane").map(named).filter((at) => at >= 0);
}

function show(focus) {
  for (const page of document.querySelectorAll("[data-page]")) page.hidden = page.dataset.page !== state.view;
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.dataset.view === state.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  hideCard();
  if (state.view === "responses" && rollouts) drawResponses();
  remember();
  scrollTo({ top: 0, behavior: "instant" }); // the browser has jumped to the section, past the head
  if (focus) document.querySelector(`[data-page="${state.view}"]`).focus({ preventScroll: true });
}

function drawResponses() {
  one("query").value = state.query;
  one("sort").value = state.sort;
  one("one").value = state.one;
  one("two").value = state.two;
  for (const box of one("boxes").querySelectorAll("input")) box.checked = state.lanes.includes(Number(box.value));
  drawGroups();
  markGroup(true);
  drawSiblings();
  drawTokens();
}

function choose(r) {
  Object.assign(state, { response: r, token: null });
  asked = 0;
  hideCard();
  markGroup(true);
  drawSiblings();
  drawTokens();
  remember();
}

function listen() {
  const again = () => { drawGroups(); markGroup(true); drawSiblings(); drawTokens(); remember(); };
  one("finder").addEventListener("submit", (event) => { event.preventDefault(); if (listed.length) choose(firstOf(listed[0])); });
  one("query").addEventListener("input", (event) => { state.query = event.target.value; again(); });
  for (const id of ["sort", "one", "two"]) one(id).addEventListener("change", (event) => {
    state[id] = id === "sort" ? event.target.value : Number(event.target.value);
    again();
    if (listed.length) choose(firstOf(listed[0]));
  });
  one("boxes").addEventListener("change", () => {
    state.lanes = [...one("boxes").querySelectorAll("input:checked")].map((box) => Number(box.value));
    drawTokens();
    remember();
  });
  one("groups").addEventListener("click", (event) => {
    const item = event.target.closest("li");
    if (item) choose(firstOf(rollouts.groups[Number(item.dataset.group)]));
  });
  one("groups").addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    stepGroup(by);
    one("groups").querySelector('[aria-selected="true"]')?.focus();
  });
  one("siblings").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) choose(Number(button.dataset.response));
  });
  one("rest").addEventListener("click", (event) => { if (event.target.id === "more") { asked += 1; drawTokens(); } });
  const tokens = one("tokens");
  tokens.addEventListener("mouseover", (event) => { const column = event.target.closest(".col"); if (column) mark(Number(column.dataset.token), false); });
  tokens.addEventListener("mouseleave", leave);
  tokens.addEventListener("focusout", hideCard);
  tokens.addEventListener("click", (event) => {
    const column = event.target.closest(".col");
    if (!column) return;
    state.token = Number(column.dataset.token) - rollouts.starts[state.response];
    mark(Number(column.dataset.token), true);
    remember();
  });
  addEventListener("scroll", placeCard, { passive: true });
  new ResizeObserver(placeCard).observe(document.body);
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width && state.view === "responses") { width = innerWidth; hideCard(); drawTokens(); } });
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input[type=search]") && event.key === "Escape") event.target.blur();
  if (event.target.matches("input[type=search], select")) return;
  const view = VIEWS[Number(event.key) - 1];
  const inResponses = {
    n: () => stepGroup(1), p: () => stepGroup(-1), j: () => stepResponse(1), k: () => stepResponse(-1),
    ArrowRight: () => stepToken(1), ArrowLeft: () => stepToken(-1), "/": () => one("query").focus(), Escape: hideCard,
  }[event.key];
  if (view) { state.view = view; show(true); } else if (state.view === "responses" && rollouts && inResponses) inResponses(); else return;
  event.preventDefault();
}

function fill() {
  const options = () => rollouts.lanes.map((lane, at) => element("option", { value: at }, lane.name));
  one("one").replaceChildren(...options());
  one("two").replaceChildren(...options());
  one("boxes").replaceChildren(...rollouts.lanes.map((lane, at) => element("label", {}, element("input", { type: "checkbox", value: at }), ` ${lane.name}`)));
  [state.one, state.two] = [rollouts.opening[0], rollouts.opening[1] ?? rollouts.opening[0]];
  Object.assign(state, { response: rollouts.first, lanes: rollouts.opening });
  document.querySelector(".steps-legend").hidden = !rollouts.steps;
  one("loading").hidden = true;
  one("viewer").hidden = false;
}

async function begin() {
  recall();
  show(false);
  addEventListener("hashchange", () => { recall(); show(true); });
  addEventListener("keydown", keys);
  document.querySelector(".skip").addEventListener("click", (event) => { // its address is a view's
    event.preventDefault();
    document.querySelector(`[data-page="${state.view}"]`).focus();
  });
  try {
    rollouts = new Rollouts(await unpacked(one("packed").textContent));
  } catch (error) {
    one("loading").textContent = `The responses can't be unpacked (${error}); a browser of 2023 or later can.`;
    return;
  }
  fill();
  listen();
  recall();
  show(false);
  document.documentElement.dataset.ready = "yes";
}

begin();

// The response's tokens, a lane for each estimator, broken into lines that all lanes share; and the card of a token.

const CELLS = 12000; // drawn before the reader asks for more: so many are drawn in half a second
const SPECIAL = /^<[^<>]*>$/, DIGIT = /\d/;
const RTL = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/, LTR = /[A-Za-z\u00c0-\u024f\u0370-\u052f\u3040-\u9fff\uac00-\ud7af]/;
let asked = 0; // how often the reader has asked for more

function atOnce() { return Math.min(2000, Math.floor(CELLS / Math.max(state.lanes.length, 1))); }
function drawn() { // tokens of the response
  return Math.min(rollouts.kept[state.response], Math.max(atOnce() * (1 + asked), (state.token ?? 0) + 1));
}

// The direction of each range of tokens: that of most of its paragraph's letters; without letters, the one before.
function directions(ranges, r) {
  const pieces = rollouts.pieces(r), first = rollouts.starts[r], found = [];
  let dir = "ltr", rtl = 0, ltr = 0, open = 0;
  ranges.forEach(([from, to], k) => {
    for (let i = from; i < to; i++) if (!SPECIAL.test(pieces[i - first])) for (const letter of pieces[i - first]) {
      rtl += RTL.test(letter);
      ltr += LTR.test(letter);
    }
    open += 1;
    if (!rollouts.text(to - 1).endsWith("⏎") && k < ranges.length - 1) return;
    if (rtl + ltr) dir = rtl > ltr ? "rtl" : "ltr";
    found.push(...Array(open).fill(dir));
    rtl = ltr = open = 0;
  });
  return found;
}

// What each token of a line reads like, and its place in it: runs of the other direction are turned round, as letters are.
function places(from, to, dir, r) {
  const pieces = rollouts.pieces(r).slice(from - rollouts.starts[r], to - rollouts.starts[r]);
  const own = pieces.map((piece) => [...piece].reduce((way, letter) => way ?? (RTL.test(letter) ? "rtl" : LTR.test(letter) || DIGIT.test(letter) ? "ltr" : null), null));
  const near = (i, by) => { while (own[i] === null) i += by; return own[i] ?? dir; };
  const ways = own.map((way, i) => way ?? (near(i, -1) === near(i, 1) ? near(i, 1) : dir)), order = ways.map((_, i) => i);
  for (let i = 0, j; i < ways.length; i = j) {
    for (j = i + 1; j < ways.length && ways[j] === ways[i]; j++);
    if (ways[i] !== dir) for (let k = i; k < j; k++) order[k] = i + j - 1 - k;
  }
  return { ways, order };
}

// Ranges [from, to) of tokens that fit on a line of the given width; a line of the response ends one, too.
function lines(start, end, width, measure) {
  const ranges = [];
  let from = start, used = 0;
  for (let i = start; i < end; i++) {
    const text = rollouts.text(i), wide = Math.max(measure(text), 5) + 3, ends = text.endsWith("⏎");
    if (i > from && (used + wide > width || (text.startsWith("⏎") && !ends))) { ranges.push([from, i]); from = i; used = 0; }
    used += wide;
    if (ends) { ranges.push([from, i + 1]); from = i + 1; used = 0; }
  }
  if (from < end) ranges.push([from, end]);
  return ranges;
}

function colour(x, largest) {
  if (x === 0) return "z";
  return (x > 0 ? "p" : "n") + Math.min(8, Math.floor(Math.abs(x) / largest * 8) + 1);
}

function hits(start, end) { // tokens that the search finds something in
  const wanted = state.query.toLowerCase(), found = new Set();
  if (!wanted) return found;
  const ends = [], pieces = [];
  let length = 0;
  for (const piece of rollouts.pieces(state.response).slice(0, end - start)) { pieces.push(piece); ends.push(length += piece.length); }
  const text = pieces.join("");
  for (let at = text.indexOf(wanted), t = 0; at >= 0; at = text.indexOf(wanted, at + 1)) {
    while (ends[t] <= at) t++;
    for (let u = t; u < ends.length && (u === 0 || ends[u - 1] < at + wanted.length); u++) found.add(start + u);
  }
  return found;
}

function drawTokens() {
  const r = state.response, start = rollouts.starts[r], end = start + drawn();
  const lanes = state.lanes.map((at) => rollouts.lanes[at]), box = one("tokens");
  const largest = lanes.map((lane) => rollouts.largest(lane, r)), numbers = lanes.map((lane) => rollouts.numbers(lane));
  const style = getComputedStyle(box), context = document.createElement("canvas").getContext("2d");
  context.font = `${style.fontSize} ${style.fontFamily}`;
  const widths = new Map(), measure = (text) => widths.get(text) ?? (widths.set(text, context.measureText(text).width), widths.get(text));
  const room = Math.max(box.clientWidth - 12.5 * parseFloat(getComputedStyle(document.documentElement).fontSize) - 24, 160);
  const found = hits(start, end), ranges = lines(start, end, room, measure), ways = directions(ranges, r);

  const label = (lane, k) => element("div", { title: lane.name }, element("b", {}, lane.name), element("span", {}, round(largest[k])));
  const column = (i, way, place) => {
    const text = rollouts.text(i), masked = rollouts.masked(i), step = rollouts.step(i);
    const classes = ["col", rollouts.begins(i) ? "begins" : "", found.has(i) ? "hit" : "", lanes.length ? "" : "plain"];
    return element("div", { class: classes.join(" ").trim(), "data-token": i, dir: way, style: `order: ${place}`, tabindex: i - start === (state.token ?? 0) ? 0 : -1 },
      element("span", { class: `mark ${step}` }, { right: "r", wrong: "x", unknown: "?" }[rollouts.begins(i) ? step : ""] ?? " "),
      ...(lanes.length ? numbers.map((x, k) => element("span", { class: masked ? "masked" : colour(x[i], largest[k]) }, text))
        : [element("span", {}, text)]));
  };
  box.replaceChildren(...ranges.map(([from, to], line) => {
    const own = places(from, to, ways[line], r);
    return element("div", { class: "line" },
      element("div", { class: "labels", "aria-hidden": from > start }, element("div", { class: "mark" }), ...lanes.map(label)),
      element("div", { class: "cols", dir: ways[line] }, ...own.ways.map((way, k) => column(from + k, way, own.order[k]))));
  }));
  if (start === rollouts.starts[r + 1]) box.replaceChildren("The response is empty.");
  drawRest(r, end - start);
  if (state.token !== null) mark(start + state.token, false);
}

function drawRest(r, shown) {
  const held = rollouts.kept[r], whole = rollouts.lengths[r];
  const more = element("button", { type: "button", id: "more" }, `Draw the next ${Math.min(atOnce(), held - shown).toLocaleString("en")}`);
  one("rest").replaceChildren(...shown < whole ? [`${shown.toLocaleString("en")} of ${whole.toLocaleString("en")} tokens are drawn. `] : [], ...shown < held ? [more] : []);
}

function mark(i, focus) {
  for (const old of one("tokens").querySelectorAll(".col.on")) { old.classList.remove("on"); old.removeAttribute("aria-label"); }
  const column = one("tokens").querySelector(`[data-token="${i}"]`);
  if (!column) return;
  column.classList.add("on");
  if (focus) {
    for (const other of one("tokens").querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
    column.tabIndex = 0;
    column.focus({ preventScroll: false });
  }
  showCard(i, column);
}

function plain(x) { return Math.abs(x) < 1e-12 ? "0" : String(Number(x.toPrecision(3))).replaceAll("-", "−"); } // less is the rounding of a sum
function signed(x) { return (x > 0 ? "+" : "") + plain(x); }

function showCard(i, column) {
  const r = state.response, t = i - rollouts.starts[r], step = rollouts.step(i), card = one("card");
  const facts = rollouts.signals.map((signal) => `${signal.name} ${plain(rollouts.numbers(signal)[i])} nats`);
  const said = rollouts.masked(i) ? ["not emitted by the policy"] : facts;
  const lanes = state.lanes.map((at) => rollouts.lanes[at]), heads = ["estimator", "advantage", ...lanes.some((lane) => lane.parts) ? ["made of"] : []];
  const part = (one) => element("span", {}, element("span", {}, one.name), ` ${plain(rollouts.numbers(one)[i])}`);
  const rows = lanes.map((lane) => element("tr", {}, element("th", { scope: "row" }, lane.name), element("td", {}, signed(rollouts.numbers(lane)[i])),
    element("td", { class: "parts" }, ...(lane.parts ?? []).flatMap((one) => [part(one), " "]))));
  card.replaceChildren(
    element("div", {}, element("b", { dir: "auto" }, rollouts.text(i).replaceAll(" ", "␣")), ` token ${t} of ${rollouts.lengths[r]}${step ? `, in a step that is ${step}` : ""}`),
    element("div", {}, said.join(" · ")),
    rollouts.masked(i) || !rows.length ? "" : element("table", {},
      element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
      element("tbody", {}, ...rows)));
  card.hidden = false;
  placeCard();
  column.setAttribute("aria-label", card.innerText.replace(/\s+/g, " "));
}

function placeCard() { // under its token, or above, or beside it where neither has room
  const card = one("card"), column = one("tokens").querySelector(".col.on");
  if (card.hidden || !column) return;
  const place = column.getBoundingClientRect(), size = card.getBoundingClientRect();
  const within = (x, most) => `${Math.max(8, Math.min(x, most - 8))}px`;
  const under = place.bottom + 8 + size.height < innerHeight, above = place.top > size.height + 8;
  const right = place.right + 8 + size.width < innerWidth ? place.right + 8 : place.left - size.width - 8;
  card.style.top = within(under ? place.bottom + 8 : above ? place.top - size.height - 8 : place.bottom, innerHeight - size.height);
  card.style.left = within(under || above ? place.left : right, innerWidth - size.width);
}

function hideCard() { one("card").hidden = true; }

function leave() { // the token that was chosen has its card back
  if (state.token === null) hideCard(); else mark(rollouts.starts[state.response] + state.token, false);
}

function stepToken(by) {
  const last = drawn() - 1;
  if (last < 0) return;
  state.token = state.token === null ? (by > 0 ? 0 : last) : Math.min(Math.max(state.token + by, 0), last);
  mark(rollouts.starts[state.response] + state.token, true);
  remember();
}

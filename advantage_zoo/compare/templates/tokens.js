// The response's tokens, a lane for each estimator, broken into lines that all lanes share; and the card of a token.

const CELLS = 12000; // drawn before the reader asks for more: so many are drawn in half a second
const SPECIAL = /^\s*<[^<>]*>[\s⏎]*$/, BYTE = /^\\x/;
const RTL = /(?=[\p{L}؛؟۔])[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u, LTR = /\p{L}/u;
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
      if (RTL.test(letter)) rtl += 1;
      else if (LTR.test(letter)) ltr += 1;
    }
    open += 1;
    if (k < ranges.length - 1 && !rollouts.text(to - 1).endsWith("⏎") && !rollouts.text(to).startsWith("⏎")) return;
    if (rtl + ltr) dir = rtl > ltr ? "rtl" : "ltr";
    found.push(...Array(open).fill(dir));
    rtl = ltr = open = 0;
  });
  return found;
}

function kind(piece) { // as its first letter is written; a number; a sign that belongs to the numbers around it
  if (SPECIAL.test(piece)) return null;
  for (const letter of piece) if (RTL.test(letter) || LTR.test(letter)) return RTL.test(letter) ? "rtl" : "ltr";
  return /\p{Nd}/u.test(piece) ? "number" : /^[.,،:/+-]$/.test(piece) ? "sign" : null;
}

// What each token of a line reads like, and its place in it: Unicode's bidirectional algorithm, with tokens for letters.
function places(from, to, dir, r) {
  const kinds = [], at = []; // and whose kind it is: a space at the edge of a token has one of its own
  const add = (kind, i) => { kinds.push(kind); at.push(i); };
  rollouts.pieces(r).slice(from - rollouts.starts[r], to - rollouts.starts[r]).forEach((piece, i) => {
    if (/^\s+\S/.test(piece)) add(null, -1);
    add(/^\p{M}*$/u.test(piece) ? kinds.at(-1) ?? null : kind(piece), i); // a mark goes with what it is on
    if (/\S\s+$/.test(piece)) add(null, -1);
  });
  let strong = dir;
  const own = kinds.map((kind, i) => {
    if (kind === "rtl" || kind === "ltr") strong = kind;
    const number = kind === "number" || (kind === "sign" && kinds[i - 1] === "number" && kinds[i + 1] === "number");
    return number ? (strong === "ltr" ? "ltr" : "number") : kind === "sign" ? null : kind;
  });
  const near = (i, by) => { while (own[i] === null) i += by; return own[i] === "number" ? "rtl" : own[i] ?? dir; };
  const levels = own.map((way, i) => way ?? (near(i, -1) === near(i, 1) ? near(i, 1) : dir))
    .map((way) => way === "rtl" ? 1 : way === "number" || dir === "rtl" ? 2 : 0); // 2 stands in 1
  const line = levels.map((_, i) => i), order = [], ways = [];
  for (const least of dir === "rtl" ? [2] : [2, 1]) { // in a row from right to left, 1 needs no turning
    for (let i = 0, j; i < line.length; i = j + 1) {
      for (j = i; levels[line[j]] >= least; j++);
      line.splice(i, j - i, ...line.slice(i, j).reverse());
    }
  }
  line.forEach((i, place) => { if (at[i] >= 0) order[at[i]] = place; });
  levels.forEach((level, i) => { if (at[i] >= 0) ways[at[i]] = level === 1 ? "rtl" : "ltr"; });
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
    for (let u = t; u < ends.length && (u === 0 || ends[u - 1] < at + wanted.length || (!pieces[u] && BYTE.test(rollouts.text(start + u)))); u++) found.add(start + u);
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
    const dir = SPECIAL.test(text) || BYTE.test(text) ? "ltr" : null; // code is read from left to right wherever it stands
    const classes = ["col", rollouts.begins(i) ? "begins" : "", found.has(i) ? "hit" : "", lanes.length ? "" : "plain"];
    return element("div", { class: classes.join(" ").trim(), "data-token": i, dir: way, style: `order: ${place}`, tabindex: i - start === (state.token ?? 0) ? 0 : -1 },
      element("span", { class: `mark ${step}` }, { right: "r", wrong: "x", unknown: "?" }[rollouts.begins(i) ? step : ""] ?? " "),
      ...(lanes.length ? numbers.map((x, k) => element("span", { class: masked ? "masked" : colour(x[i], largest[k]), dir }, text))
        : [element("span", { dir }, text)]));
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

function plain(x, digits = 3) { return Math.abs(x) < 1e-12 ? "0" : String(Number(x.toPrecision(digits))).replaceAll("-", "−"); } // less is the rounding of a sum
function digits(part, x) { return part.name === "reward" ? 7 : part.rows ? 3 + Math.min(4, Math.max(0, Math.ceil(Math.log10(Math.abs(x))))) : 3; } // never cut before the point
function signed(x) { return (x > 0 ? "+" : "") + plain(x); }

function showCard(i, column) {
  const r = state.response, t = i - rollouts.starts[r], step = rollouts.step(i), card = one("card");
  const facts = rollouts.signals.map((signal) => `${signal.name} ${plain(rollouts.numbers(signal)[i])} nats`);
  const said = rollouts.masked(i) ? ["not emitted by the policy"] : facts;
  const lanes = state.lanes.map((at) => rollouts.lanes[at]), heads = ["estimator", "advantage", ...lanes.some((lane) => lane.parts) ? ["made of"] : []];
  const part = (one) => element("span", {}, element("span", {}, one.name), ` ${plain(rollouts.numbers(one)[i], digits(one, rollouts.numbers(one)[i]))}`);
  const rows = lanes.map((lane) => element("tr", {}, element("th", { scope: "row" }, lane.name), element("td", {}, signed(rollouts.numbers(lane)[i])),
    element("td", { class: "parts" }, ...(lane.parts ?? []).flatMap((one) => [part(one), " "]))));
  card.replaceChildren(
    element("div", {}, element("b", { dir: "auto" }, rollouts.text(i).replaceAll(" ", "␣")), ` token ${t} of ${rollouts.lengths[r]}${step ? `, in a step that is ${step}` : ""}`),
    element("div", {}, said.join(" · ")),
    rollouts.masked(i) || !rows.length ? "" : element("div", { class: "told" }, element("table", {},
      element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
      element("tbody", {}, ...rows))));
  card.hidden = false;
  placeCard();
  column.setAttribute("aria-label", card.innerText.replace(/\s+/g, " "));
}

function placeCard() { // under its token, above it, beside it; what is too long for that is in two columns, all of it in the window
  const card = one("card"), column = one("tokens").querySelector(".col.on");
  if (card.hidden || !column) return;
  const place = column.getBoundingClientRect(), after = innerWidth - place.right > place.left;
  const sized = (long, width) => {
    card.classList.toggle("long", long);
    Object.assign(card.style, { left: 0, top: 0, maxWidth: width });
    return card.getBoundingClientRect();
  };
  const across = () => place.bottom + 8 + size.height < innerHeight ? place.bottom + 8
    : place.top > size.height + 8 ? place.top - size.height - 8 : null;
  let size = sized(false, ""), top = across(), left = place.left;
  if (top === null) {
    size = sized(false, `${Math.max(innerWidth - place.right, place.left) - 16}px`);
    left = after ? place.right + 8 : place.left - size.width - 8;
    if (size.height + 16 > innerHeight) { size = sized(true, ""); top = across(); left = place.left; }
    top ??= Math.max(8, Math.min(place.top, innerHeight - size.height - 8));
  }
  card.style.top = `${top}px`;
  card.style.left = `${Math.max(8, Math.min(left, innerWidth - size.width - 8))}px`;
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

"use strict";
// Unpacks what compare/payload.py packed, and answers questions about it. N tokens, R responses, G groups.

async function unpacked(packed) {
  const letters = atob(packed), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i); // ten times as fast as Uint8Array.from
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function halfToNumber(half) {
  const sign = half & 0x8000 ? -1 : 1, exponent = (half >> 10) & 31, fraction = half & 1023;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
}
const SQUARES = Float32Array.from({ length: 65536 }, (_, half) => halfToNumber(half) * Math.abs(halfToNumber(half)));

function lettered(texts) {
  const pieces = texts.map((text) => text.replace(/[∅◌]/g, "").toLowerCase()), whole = new TextDecoder("utf-8", { fatal: true });
  let bytes = [], first = 0;
  texts.forEach((text, t) => {
    if (!/^(\\x[0-9a-f]{2})+$/.test(text)) { bytes = []; return; }
    if (!bytes.length) first = t;
    bytes.push(...text.match(/(?<=\\x)../g).map((byte) => parseInt(byte, 16)));
    try {
      pieces[first] = whole.decode(Uint8Array.from(bytes)).toLowerCase();
    } catch { return; } // part of a letter
    pieces.fill("", first + 1, t + 1);
    bytes = [];
  });
  return pieces;
}

class Rollouts {
  constructor(bytes) {
    const size = new DataView(bytes.buffer).getUint32(0, true);
    Object.assign(this, JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size))));
    this.bytes = bytes.subarray(4 + size);
    this.starts = [0]; // of each response among the tokens, R + 1
    for (const kept of this.kept) this.starts.push(this.starts.at(-1) + kept);
    this.total = this.starts.at(-1);
    this.flags = this.bytes.subarray(3 * this.total, 4 * this.total);
    let next = 0;
    this.groups.forEach((group, g) => {
      Object.assign(group, { g, first: next, end: next + group.size });
      next = group.end;
    });
    this.groupOf = this.groups.flatMap((group) => Array(group.size).fill(group.g));
  }

  text(i) {
    const { bytes, total } = this;
    return this.vocabulary[bytes[i] | (bytes[total + i] << 8) | (bytes[2 * total + i] << 16)];
  }

  masked(i) { return (this.flags[i] & 1) === 1; }
  begins(i) { return (this.flags[i] & 8) === 8; }
  step(i) { return ["", "right", "wrong", "unknown"][(this.flags[i] >> 1) & 3]; }

  // One number a token, (N,); made when first asked for.
  numbers(column) {
    if (!column.numbers) {
      column.numbers = new Float32Array(this.total);
      if (column.rows) {
        column.rows.forEach((x, r) => column.numbers.fill(x, this.starts[r], this.starts[r + 1]));
        column.numbers.forEach((_, i) => { if (this.masked(i)) column.numbers[i] = 0; });
      } else {
        const low = this.bytes.subarray((4 + 2 * column.at) * this.total), high = low.subarray(this.total);
        for (let i = 0; i < this.total; i++) column.numbers[i] = SQUARES[low[i] | (high[i] << 8)] * column.scale;
      }
    }
    return column.numbers;
  }

  largest(lane, r) {
    const x = this.numbers(lane);
    let most = 0;
    for (let i = this.starts[r]; i < this.starts[r + 1]; i++) most = Math.max(most, Math.abs(x[i]));
    return most;
  }

  prompt(r) { return this.prompts[r] ?? this.groups[this.groupOf[r]].prompt; }
  successful(r) { return this.rewards[r] > this.threshold; }

  // What a search looks through, of each token, in lower case: without the signs for nothing, and bytes are letters again.
  pieces(r) {
    this.known ??= [];
    return (this.known[r] ??= lettered(Array.from({ length: this.kept[r] }, (_, t) => this.text(this.starts[r] + t))));
  }

  wording(r) { return this.pieces(r).join(""); }

  // 1 - cosine over the group's tokens; 0 if neither gives a signal, 1 if one of them does.
  disagreement(group, one, two) {
    const a = this.numbers(one), b = this.numbers(two);
    let ab = 0, aa = 0, bb = 0;
    for (let i = this.starts[group.first]; i < this.starts[group.end]; i++) {
      const x = a[i] / (one.scale ?? 1), y = b[i] / (two.scale ?? 1);
      ab += x * y; aa += x * x; bb += y * y;
    }
    return aa && bb ? 1 - ab / Math.sqrt(aa * bb) : aa || bb ? 1 : 0;
  }

  silent(group, lane) {
    const x = this.numbers(lane);
    for (let i = this.starts[group.first]; i < this.starts[group.end]; i++) if (x[i]) return false;
    return true;
  }

  collapse(group) { return (group.collapse ??= this.lanes.filter((lane) => this.silent(group, lane)).length); }

  length(group) {
    let sum = 0;
    for (let r = group.first; r < group.end; r++) sum += this.lengths[r];
    return sum / group.size;
  }
}

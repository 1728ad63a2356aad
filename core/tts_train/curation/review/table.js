// The table as `corpus apply` reads it, and the difference of two texts. Nothing here touches the page.

const GUARDED = ["clip", "text", "speaker", "language", "second hypothesis"];

// A spreadsheet would run or change such a cell; an apostrophe before it keeps it (see table.py).
const guard = (cell, mistaken) => (mistaken.test(cell) ? "'" + cell : cell);

const quoteCell = (cell) => (/[",\r\n]/.test(cell) ? '"' + cell.replaceAll('"', '""') + '"' : cell);

const tableText = (columns, rows, mistaken) => {
  const lines = [columns, ...rows.map((cells) =>
    cells.map((cell, at) => (GUARDED.includes(columns[at]) ? guard(cell, mistaken) : cell)))];
  return "\ufeff" + lines.map((cells) => cells.map(quoteCell).join(",") + "\r\n").join("");
};

// Scripts without blanks between words are compared by characters.
const UNSPACED = /[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]/;
const parts = (text) => text.match(UNSPACED.test(text) ? /\s+|[\s\S]/gu : /\s+|\S+/gu) || [];
const plain = (part) => part.normalize("NFKC").toLowerCase().replace(/[^\p{L}\p{N}\p{M}]/gu, "");

// What to do to the first text to get the second: [["same"|"gone"|"new", words], ...]; blanks and marks do not count.
const difference = (from, to) => {
  const a = parts(from), b = parts(to);
  const one = a.filter((part) => plain(part)), other = b.filter((part) => plain(part));
  // The table of lengths has a cell for each pair.
  if (one.length * other.length > 400000) return [["same", to]];
  const left = one.map(plain), right = other.map(plain);
  const width = right.length + 1, lengths = new Uint16Array((left.length + 1) * width);
  for (let i = left.length - 1; i >= 0; i--)
    for (let j = right.length - 1; j >= 0; j--)
      lengths[i * width + j] = left[i] === right[j]
        ? lengths[(i + 1) * width + j + 1] + 1
        : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
  const blank = [...a, ...b].some((part) => /^\s/.test(part)) ? " " : "";
  const found = [];
  const add = (kind, part) => {
    const last = found[found.length - 1];
    if (last && last[0] === kind) last[1] += blank + part;
    else found.push(...(last && blank ? [["same", blank]] : []), [kind, part]);
  };
  let i = 0, j = 0;
  while (i < left.length || j < right.length) {
    if (i < left.length && j < right.length && left[i] === right[j]) { add("same", other[j]); i++; j++; }
    else if (i < left.length && (j === right.length || lengths[(i + 1) * width + j] >= lengths[i * width + j + 1])) {
      add("gone", one[i]); i++;
    } else { add("new", other[j]); j++; }
  }
  return found;
};

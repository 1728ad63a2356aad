const data = JSON.parse(document.getElementById("data").textContent);
const mistaken = new RegExp("^(?:" + data.mistaken + ")$");
const at = Object.fromEntries(data.columns.map((name, place) => [name, place]));
const EDITED = ["text", "speaker", "language"];
const RIGHT_TO_LEFT = new Set("ar arc ckb dv fa he iw ks ps sd ug ur yi".split(" "));
const STORE = "tts-train review " + data.key, SETTINGS = "tts-train review settings";
const byId = (id) => document.getElementById(id);
const make = (tag, values = {}, ...inside) => {
  const made = Object.assign(document.createElement(tag), values);
  made.append(...inside);
  return made;
};

// ---- Rows and what a person does with them -------------------------------------------------------------------------

const rows = data.rows.map((cells, place) => ({
  place,
  cells,
  clip: cells[at.clip],
  state: cells[at.state],
  suspicion: Number(cells[at.suspicion]),
  seconds: Number(cells[at.seconds]),
  reasons: data.reasons[place],
  order: data.places[place],
  edit: {},
}));
const byClip = new Map(rows.map((row) => [row.clip, row]));
const was = (row, name) => row.cells[at[name]];
const now = (row, name) => (row.edit[name] === undefined ? was(row, name) : row.edit[name]);
const action = (row) => row.edit.action || "";
const changed = (row) => EDITED.some((name) => now(row, name) !== was(row, name)) || ["drop", "keep"].includes(action(row));
const reviewed = (row) => action(row) !== "" || row.state === "reviewed" || row.state === "removed";
const isKept = (row) => (row.state === "removed" ? action(row) === "keep" : action(row) !== "drop");

let stored = true;  // whether this browser keeps what is edited
let savedAs = "";
const edits = () => rows.filter((row) => Object.keys(row.edit).length);
const asStored = () => JSON.stringify(Object.fromEntries(edits().map((row) => [row.clip,
  Object.fromEntries(Object.entries(row.edit).map(([name, to]) => [name, [was(row, name), to]]))])));

const keep = () => {
  try {
    if (edits().length) localStorage.setItem(STORE, asStored()); else localStorage.removeItem(STORE);
    stored = true;
  } catch { stored = false; }
};

// What was edited before: still asked for, or applied since, or of a text that has changed since.
const bringBack = () => {
  let found = {}, outdated = 0;
  try { found = JSON.parse(localStorage.getItem(STORE) || "{}"); } catch { stored = false; }
  for (const row of rows) row.edit = {};
  for (const [clip, edit] of Object.entries(found)) {
    const row = byClip.get(clip);
    if (!row) continue;
    for (const [name, [from, to]] of Object.entries(edit)) {
      if (name === "action") {
        const done = { ok: "reviewed", drop: "removed" }[to] === row.state || (to === "keep" && row.state !== "removed");
        if (!done && !(to === "ok" && row.state === "removed")) row.edit.action = to;
      } else if (was(row, name) === from) row.edit[name] = to;
      else if (was(row, name) !== to) outdated++;
    }
  }
  return outdated;
};

const change = (row, name, value) => {
  if (value === (name === "action" ? "" : was(row, name))) delete row.edit[name]; else row.edit[name] = value;
  keep();
  showCount();
  refresh(row);
};

// ---- Sound: one player for all rows -------------------------------------------------------------------------------

const sound = new Audio();
sound.preload = "auto";
let playing = null;  // the row that is loaded
const link = (row) => data.base + row.clip.split("/").map(encodeURIComponent).join("/");
const load = (row) => {
  if (playing === row) return;
  const before = playing;
  if (sound.src.startsWith("blob:")) URL.revokeObjectURL(sound.src);
  playing = row;
  sound.src = link(row);
  sound.playbackRate = Number(byId("speed").value);
  if (before) showSound(before);
};
const play = (row, { again = false } = {}) => {
  load(row);
  if (again) sound.currentTime = 0;
  sound.playbackRate = Number(byId("speed").value);
  sound.play().catch((error) => { if (error.name !== "AbortError") failed(row); });
};
const toggleSound = (row) => {
  if (playing === row && !sound.paused) sound.pause(); else play(row, { again: playing === row && sound.ended });
};
const seekTo = async (row, time) => {
  load(row);
  // A plain web server sends files whole, and no browser can seek in those: it is given the clip in memory.
  if (location.protocol.startsWith("http") && !sound.src.startsWith("blob:")) {
    const running = !sound.paused;
    try {
      const answer = await fetch(link(row));
      if (!answer.ok || playing !== row) return;
      sound.src = URL.createObjectURL(await answer.blob());
      await new Promise((done, failed) => { sound.onloadedmetadata = done; sound.onerror = failed; });
    } catch { return; }
    sound.playbackRate = Number(byId("speed").value);
    if (running) sound.play();
  }
  const end = Number.isFinite(sound.duration) ? sound.duration : row.seconds;
  sound.currentTime = Math.min(Math.max(time, 0), end);
  showSound(row);
};
const seek = (row, by) => seekTo(row, (playing === row ? sound.currentTime : 0) + by);
const failed = (row) => {
  // Read, but not decoded or not heard: the browser knows why. Otherwise it is not there, or may not be read.
  row.failed = sound.error && sound.error.code === MediaError.MEDIA_ERR_DECODE ? "The browser says: " + sound.error.message
    : "Keep the page where it was written, or serve the folder (see docs/corpus.md).";
  refresh(row);
};
for (const event of ["play", "pause", "ended", "timeupdate", "loadedmetadata"])
  sound.addEventListener(event, () => playing && showSound(playing));
sound.addEventListener("error", () => playing && failed(playing));

const clock = (seconds) => seconds.toFixed(1);
const showSound = (row) => {
  const parts = row.parts;
  if (!parts) return;
  const on = playing === row, running = on && !sound.paused && !sound.ended;
  const end = on && Number.isFinite(sound.duration) ? sound.duration : row.seconds;
  parts.play.setAttribute("aria-label", (running ? "Pause " : "Play ") + row.clip);
  parts.play.classList.toggle("running", running);
  parts.seek.max = end;
  parts.seek.value = on ? sound.currentTime : 0;
  parts.seek.style.setProperty("--share", end ? (on ? sound.currentTime : 0) / end : 0);
  parts.time.textContent = (on && (running || sound.currentTime) ? clock(sound.currentTime) + " / " : "") + clock(end) + " s";
};

// ---- One row ------------------------------------------------------------------------------------------------------

const level = (row) => (row.suspicion >= 0.7 ? "high" : row.suspicion >= 0.35 ? "middle" : "low");

const fill = (item, row) => {
  const id = "row-" + row.place;
  const hypothesis = was(row, "second hypothesis");
  const text = make("textarea", { id: id + "-text", rows: 1, spellcheck: true, enterKeyHint: "next", value: now(row, "text") });
  const field = (name, label) => {
    const input = make("input", { id: id + "-" + name, value: now(row, name), autocomplete: "off" });
    input.setAttribute("list", name + "s");
    if (name === "language") { input.size = 6; input.autocapitalize = "off"; }
    input.addEventListener("input", () => change(row, name, input.value.trim()));
    return [input, make("label", {}, label + " ", input)];
  };
  const [speaker, speakerLabel] = field("speaker", "Speaker");
  const [language, languageLabel] = field("language", "Language");
  const parts = {
    text, speaker, language,
    play: make("button", { type: "button", className: "play" }),
    seek: make("input", { type: "range", min: 0, step: 0.01, className: "seek" }),
    time: make("span", { className: "time" }),
    ok: make("button", { type: "button", className: "ok" }),
    drop: make("button", { type: "button", className: "drop" }),
    revert: make("button", { type: "button", className: "quiet", textContent: "Undo edits" }),
    status: make("span", { className: "status" }),
    hypothesis: make("span", { className: "words" }),
    why: make("ul", { className: "why" }, ...row.reasons.map(([, said]) => make("li", {}, said))),
    error: make("p", { className: "error", hidden: true }),
  };
  parts.seek.setAttribute("aria-label", "Position in " + row.clip);
  parts.seek.addEventListener("input", () => seekTo(row, Number(parts.seek.value)));
  parts.play.addEventListener("click", () => { select(row, { quiet: true }); toggleSound(row); });
  parts.ok.addEventListener("click", () => setReviewed(row, action(row) !== "ok"));
  parts.drop.addEventListener("click", () => toggleDrop(row));
  parts.revert.addEventListener("click", () => { row.edit = {}; keep(); showCount(); refresh(row); item.focus(); });
  text.addEventListener("input", () => { grow(text); change(row, "text", text.value); });
  const figures = make("p", { className: "figures" });
  figures.append(make("span", { className: "suspicion", textContent: row.cells[at.suspicion], title: "Suspicion, 0 to 1" }),
    make("span", { className: "clip", textContent: row.clip.split("/").pop(), title: row.clip }), parts.status);
  // A low one stands among the reasons.
  if (was(row, "confidence") && !row.reasons.some(([kind]) => kind === "unsure")) figures.append(make("span", { className: "aside", textContent: "confidence " + was(row, "confidence") }));
  const inside = [
    figures,
    make("div", { className: "player" }, parts.play, parts.seek, parts.time),
    parts.error,
    make("label", { className: "for-text", htmlFor: text.id, textContent: "Text" }),
    text,
  ];
  if (hypothesis) {
    const take = make("button", { type: "button", className: "quiet", textContent: "Use this" });
    take.setAttribute("aria-label", "Use the second hypothesis as text");
    take.addEventListener("click", () => { change(row, "text", hypothesis); text.focus(); });
    inside.push(make("p", { className: "hypothesis" }, make("span", { className: "name", textContent: "Also heard" }), parts.hypothesis, take));
  }
  if (row.reasons.length) inside.push(parts.why);
  inside.push(make("div", { className: "acts" }, parts.ok, parts.drop, parts.revert,
    make("div", { className: "fields" }, speakerLabel, languageLabel)));
  row.parts = parts;
  row.item = item;
  item.replaceChildren(...inside);
  item.style.minHeight = "";
  refresh(row);
  grow(text);
};

const empty = (item, row) => {
  // Focus would be lost with what holds it.
  if (!row.parts || item.contains(document.activeElement)) return;
  item.style.minHeight = item.offsetHeight + "px";
  item.replaceChildren();
  row.parts = null;
};

const grow = (text) => {
  text.style.height = "auto";
  text.style.height = text.scrollHeight + 2 + "px";
};

const refresh = (row) => {
  const parts = row.parts;
  if (!parts) return;
  for (const name of EDITED) {
    // A blank at the end of what is being typed is no change yet.
    const typed = parts[name] === document.activeElement && parts[name].value.trim() === now(row, name).trim();
    if (typed || parts[name].value === now(row, name)) continue;
    parts[name].value = now(row, name);
    if (name === "text") grow(parts.text);
  }
  const language = now(row, "language");
  parts.text.lang = language;
  parts.text.dir = RIGHT_TO_LEFT.has(language.split("-")[0]) ? "rtl" : "auto";
  const gone = !isKept(row), done = reviewed(row) && row.state !== "removed";
  parts.ok.textContent = "Reviewed";
  parts.ok.setAttribute("aria-pressed", action(row) === "ok" || (row.state === "reviewed" && !action(row)));
  parts.ok.hidden = row.state === "removed";
  parts.ok.disabled = row.state === "reviewed";
  parts.drop.textContent = row.state === "removed" ? "Bring back" : "Drop";
  parts.drop.setAttribute("aria-pressed", action(row) === "drop" || action(row) === "keep");
  parts.revert.hidden = !Object.keys(row.edit).length;
  const told = [row.state === "removed" && gone ? "taken out" : gone ? "dropped" : action(row) === "keep" ? "brought back" : done ? "reviewed" : "",
    EDITED.some((name) => now(row, name) !== was(row, name)) ? "changed" : ""].filter(Boolean).join(", ");
  parts.status.textContent = told;
  parts.error.hidden = !row.failed;
  parts.error.textContent = row.failed ? "This clip cannot be played: " + row.clip + ". " + row.failed : "";
  row.item.classList.toggle("gone", gone);
  row.item.classList.toggle("done", done && !gone);
  row.item.setAttribute("aria-label", "Clip " + row.clip + (told ? ", " + told : ""));
  const hypothesis = was(row, "second hypothesis");
  if (hypothesis) {
    parts.hypothesis.lang = language;
    parts.hypothesis.dir = parts.text.dir;
    parts.hypothesis.replaceChildren(...difference(now(row, "text"), hypothesis).map(([kind, words]) =>
      kind === "same" ? words : make(kind === "new" ? "ins" : "del", {}, words)));
  }
  showSound(row);
};

// ---- The list: placeholders, of which only those near the window are filled ----------------------------------------

let visible = [], current = null;
const items = new Map();
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const row = rows[Number(entry.target.dataset.place)];
    if (entry.isIntersecting) { if (!row.parts) fill(entry.target, row); } else empty(entry.target, row);
  }
}, { rootMargin: "900px 0px" });

const ORDERS = {
  suspicion: ["Most suspicious first", (a, b) => a.place - b.place],
  recording: ["As in the recordings", (a, b) => a.order - b.order],
  shortest: ["Shortest first", (a, b) => a.seconds - b.seconds],
  longest: ["Longest first", (a, b) => b.seconds - a.seconds],
};
const SHOWN = {
  all: ["All clips", () => true],
  open: ["Not reviewed", (row) => !reviewed(row)],
  done: ["Reviewed", (row) => reviewed(row) && row.state !== "removed"],
  changed: ["Changed", changed],
  dropped: ["Dropped now", (row) => action(row) === "drop"],
  removed: ["Taken out before", (row) => row.state === "removed"],
};

const filter = () => {
  const words = byId("search").value.normalize("NFKC").toLowerCase().split(/\s+/).filter(Boolean);
  const reason = byId("reason").value, speaker = byId("speaker").value;
  const fits = (row) => {
    const hay = [row.clip, now(row, "text"), now(row, "speaker"), was(row, "second hypothesis")].join(" ").normalize("NFKC").toLowerCase();
    return SHOWN[byId("show").value][1](row)
      && (!reason || row.reasons.some(([kind]) => kind === reason))
      && (!speaker || "=" + now(row, "speaker") === speaker)
      && words.every((word) => hay.includes(word));
  };
  visible = rows.filter(fits).sort(ORDERS[byId("order").value][1]);
  watcher.disconnect();
  for (const row of rows) row.parts = null;
  items.clear();
  const list = visible.map((row) => {
    const item = make("li", { tabIndex: -1 });
    item.dataset.place = row.place;
    item.className = "row " + level(row);
    item.setAttribute("aria-label", "Clip " + row.clip);
    item.style.minHeight = "180px";
    items.set(row, item);
    return item;
  });
  byId("rows").replaceChildren(...list);
  for (const item of list) watcher.observe(item);
  byId("shown").textContent = visible.length === rows.length ? ""
    : visible.length ? visible.length + " of " + rows.length + " clips are shown." : "No clip is like that.";
  if (!visible.includes(current)) current = null;
  mark(current || visible[0] || null);
};

const mark = (row) => {
  for (const item of items.values()) if (item.tabIndex === 0) { item.tabIndex = -1; item.removeAttribute("aria-current"); }
  const item = items.get(row);
  if (!item) return;
  current = row;
  item.tabIndex = 0;
  item.setAttribute("aria-current", "true");
};

const select = (row, { quiet = false, text = false } = {}) => {
  const item = items.get(row);
  if (!item) return;
  mark(row);
  if (!row.parts) fill(item, row);
  if (!item.contains(document.activeElement) || !quiet) {
    const target = text ? row.parts.text : item;
    target.focus({ preventScroll: true });
    if (text) target.setSelectionRange(target.value.length, target.value.length);
  }
  item.scrollIntoView({ block: "nearest" });
  if (!quiet && byId("auto").checked) play(row, { again: true });
};

const move = (by, options) => {
  const place = visible.indexOf(current);
  const next = visible[Math.min(Math.max(place + by, 0), visible.length - 1)];
  if (!next) return;
  if (next === current && by > 0) say("That was the last clip shown.");
  if (playing !== next) sound.pause();
  select(next, options);
};

const setReviewed = (row, value) => {
  if (row.state === "removed") return;
  if (row.state === "reviewed") { if (action(row) === "drop") change(row, "action", ""); return; }
  change(row, "action", value ? "ok" : "");
};
const toggleDrop = (row) => {
  const what = row.state === "removed" ? "keep" : "drop";
  change(row, "action", action(row) === what ? "" : what);
};

// ---- Counts, saving, keys -----------------------------------------------------------------------------------------

let saying = 0;
const say = (words, { stays = false } = {}) => {
  byId("note").textContent = words;
  byId("note").hidden = !words;
  clearTimeout(saying);
  if (!stays) saying = setTimeout(() => say(""), 4000);
};

const showCount = () => {
  const kept = rows.filter((row) => row.state !== "removed");
  const done = kept.filter(reviewed).length, edited = rows.filter(changed).length;
  byId("count").textContent = done + " of " + kept.length + " reviewed, " + edited + " changed";
  byId("progress").max = Math.max(kept.length, 1);
  byId("progress").value = done;
  byId("discard").hidden = !edits().length;
  byId("save").classList.toggle("waits", edits().length > 0 && asStored() !== savedAs);
  if (!stored) say("This browser keeps no edits. Save the table before you close the page.", { stays: true });
};

const saveTable = () => {
  const cells = rows.map((row) => data.columns.map((name, place) =>
    name === "action" ? action(row) : EDITED.includes(name) ? now(row, name) : row.cells[place]));
  const file = new Blob([tableText(data.columns, cells, mistaken)], { type: "text/csv;charset=utf-8" });
  const anchor = make("a", { href: URL.createObjectURL(file), download: "review.csv" });
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 60000);
  savedAs = asStored();
  showCount();
  const command = data.command + " review.csv";
  const copy = make("button", { type: "button", className: "quiet", textContent: "Copy" });
  copy.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(command); copy.textContent = "Copied"; }
    catch { getSelection().selectAllChildren(byId("saved").querySelector("code")); copy.textContent = "Selected"; }
  });
  const close = make("button", { type: "button", className: "quiet", textContent: "Close" });
  close.addEventListener("click", () => { byId("saved").hidden = true; byId("save").focus(); });
  byId("saved").replaceChildren(
    make("p", {}, "review.csv is saved, with " + rows.filter(changed).length + " changed and "
      + rows.filter((row) => action(row) === "ok").length + " newly reviewed clips. Bring it into the corpus with this command, in the folder that your browser saved to, or with the path of the file:"),
    make("p", { className: "command" }, make("code", {}, command)), make("p", {}, copy, " ", close));
  byId("saved").hidden = false;
};

const press = (event) => {
  const target = event.target, key = event.key, control = event.ctrlKey || event.metaKey;
  const is = (letter) => key.toLowerCase() === letter || (event.code === "Key" + letter.toUpperCase() && !/^[a-z]$/i.test(key));
  // An input method is choosing letters.
  if (event.isComposing || event.keyCode === 229) return;
  const take = (work) => { event.preventDefault(); work(); };
  if (control && is("s")) return take(saveTable);
  const item = target.closest && target.closest("li.row");
  if (item && rows[Number(item.dataset.place)] !== current) mark(rows[Number(item.dataset.place)]);
  if (!current) return;
  const typing = target.matches("textarea, input:not([type=range]):not([type=checkbox])");
  if (control && key === "Enter") return take(() => { target.blur(); setReviewed(current, true); move(1, { text: target.matches("textarea") }); });
  if (control && (key === " " || event.code === "Space")) return take(() => toggleSound(current));
  if (typing && !item) return;
  if (key === "Escape" && item) return take(() => items.get(current).focus());
  if (target.matches("textarea") && key === "Enter" && !event.shiftKey) return take(() => move(1, { text: true }));
  if (control || event.altKey || typing || target.matches("select, summary")) return;
  const button = target.matches("button, input[type=checkbox]"), range = target.matches("input[type=range]");
  if (key === " " && !button) return take(() => toggleSound(current));
  if (key === "Enter" && !button) return take(() => move(1));
  if (key === "ArrowDown" && !range) return take(() => move(1));
  if (key === "ArrowUp" && !range) return take(() => move(-1));
  if (key === "ArrowLeft" && !range) return take(() => seek(current, -1));
  if (key === "ArrowRight" && !range) return take(() => seek(current, 1));
  if (is("d")) return take(() => toggleDrop(current));
  if (is("e")) return take(() => select(current, { quiet: false, text: true }));
};

const options = (id, entries) => byId(id).replaceChildren(...entries.map(([value, name]) => make("option", { value, textContent: name })));
const start = () => {
  options("show", Object.entries(SHOWN).map(([value, [name]]) => [value, name]));
  options("order", Object.entries(ORDERS).map(([value, [name]]) => [value, name]));
  options("speed", [["0.75", "0.75×"], ["1", "1×"], ["1.25", "1.25×"], ["1.5", "1.5×"], ["2", "2×"]]);
  const kinds = new Map();
  for (const row of rows) for (const kind of new Set(row.reasons.map(([kind]) => kind))) kinds.set(kind, (kinds.get(kind) || 0) + 1);
  options("reason", [["", "Any or none"], ...[...kinds].sort((a, b) => b[1] - a[1]).map(([kind, count]) => [kind, data.kinds[kind] + " (" + count + ")"])]);
  const names = (name) => [...new Set(rows.map((row) => was(row, name)))].filter(Boolean).sort();
  const speakers = [...new Set(rows.map((row) => was(row, "speaker")))].sort();
  options("speaker", [["", "All"], ...speakers.map((name) => ["=" + name, name || "(none)"])]);
  byId("speakers").hidden = speakers.length < 2;
  for (const name of ["speaker", "language"])
    document.body.append(make("datalist", { id: name + "s" }, ...names(name).map((value) => make("option", { value }))));
  const settings = (() => { try { return JSON.parse(localStorage.getItem(SETTINGS) || "{}"); } catch { return {}; } })();
  byId("speed").value = settings.speed || "1";
  byId("auto").checked = settings.auto === true;
  byId("more").open = matchMedia("(min-width: 641px)").matches;
  byId("keys").open = settings.keys !== false && matchMedia("(min-width: 700px)").matches;
  const remember = () => {
    try { localStorage.setItem(SETTINGS, JSON.stringify({ speed: byId("speed").value, auto: byId("auto").checked, keys: byId("keys").open })); } catch { stored = false; }
    sound.playbackRate = Number(byId("speed").value);
  };
  for (const id of ["speed", "auto"]) byId(id).addEventListener("change", remember);
  byId("keys").addEventListener("toggle", remember);
  for (const id of ["show", "reason", "speaker", "order"]) byId(id).addEventListener("change", filter);
  let waits = 0;
  byId("search").addEventListener("input", () => { clearTimeout(waits); waits = setTimeout(filter, 150); });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("save").addEventListener("click", saveTable);
  byId("discard").addEventListener("click", () => {
    if (!confirm("Discard what was edited in " + edits().length + " clips?")) return;
    for (const row of rows) row.edit = {};
    keep();
    showCount();
    filter();
  });
  document.addEventListener("keydown", press);
  document.addEventListener("focusin", (event) => {
    const item = event.target.closest && event.target.closest("li.row");
    if (item) mark(rows[Number(item.dataset.place)]);
  });
  addEventListener("beforeunload", (event) => { if (!stored && edits().length && asStored() !== savedAs) event.preventDefault(); });
  // The same page in another tab.
  addEventListener("storage", (event) => { if (event.key === STORE) { bringBack(); showCount(); for (const row of rows) refresh(row); } });
  addEventListener("resize", () => { for (const row of visible) if (row.parts) grow(row.parts.text); });
  const outdated = bringBack();
  if (outdated) say(outdated + " earlier edits in this browser were of texts that have changed since, and are left out.", { stays: true });
  showCount();
  filter();
};
start();

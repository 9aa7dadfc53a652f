// What the reviewer decided: kept in this browser where it lets us, exported for everybody else.

const decisions = new Map();
const undone = [];
const KEPT = `bladescan.review.${deck.id}`;
const LETTERS = { "ai-generated": "a", photographic: "p", unsure: "u" };
const WORDS = Object.fromEntries(Object.entries(LETTERS).map(([word, letter]) => [letter, word]));
let isKept = true;
let exported = true;
let waiting = null;

function readKept() {
  try {
    for (const [card, told] of Object.entries(JSON.parse(localStorage.getItem(KEPT) ?? "{}"))) {
      const number = parseInt(card, 36);
      const at = parseInt(told.slice(1), 36);
      if (number < deck.count && WORDS[told[0]] && Number.isFinite(at)) {
        decisions.set(number, { decision: WORDS[told[0]], at });
      }
    }
  } catch {
    isKept = false;
  }
}

function keepNow() {
  waiting = null;
  const told = {};
  for (const [card, { decision, at }] of decisions) told[card.toString(36)] = LETTERS[decision] + at.toString(36);
  try {
    localStorage.setItem(KEPT, JSON.stringify(told));
    isKept = true;
  } catch {
    isKept = false;
  }
  document.getElementById("unkept").hidden = isKept;
}

function keepSoon() {
  exported = false;
  waiting ??= setTimeout(keepNow, 250);
}

function decide(card, decision, { toggles = false } = {}) {
  const before = decisions.get(card);
  undone.push({ card, before });
  if (toggles && before?.decision === decision) decisions.delete(card); // the same button takes it back
  else decisions.set(card, { decision, at: Math.floor(Date.now() / 1000) });
  keepSoon();
}

function undo() {
  const last = undone.pop();
  if (!last) return null;
  if (last.before) decisions.set(last.card, last.before);
  else decisions.delete(last.card);
  keepSoon();
  return last.card;
}

const TOLD = ["sha256", "face", "path", "verdict", "score", "n_faces", "place", "picture_hash", "crop_hash"];
const FIELDS = ["schema", ...TOLD.slice(0, 3), "decision", "decided_at", "looked_at", ...TOLD.slice(3)];

async function* decidedFaces() {
  for (const card of [...decisions.keys()].sort((a, b) => a - b)) {
    const details = await detailsOf(card);
    const { decision, at } = decisions.get(card);
    const decided = new Date(1000 * at).toISOString().replace(".000Z", "+00:00");
    for (const face of [details, ...details.copies]) {
      // Of the near-duplicates behind a card only those with the very same bytes were looked at as well.
      const same = face === details || (face.sha256 !== "" && face.sha256 === details.sha256 && face.face === details.face);
      const told = { schema: 1, decision, decided_at: decided, looked_at: same };
      for (const name of TOLD) told[name] = face[name] ?? null;
      yield Object.fromEntries(FIELDS.map((name) => [name, told[name]]));
    }
  }
}

// JSON allows separators that many readers take for the end of a line.
function oneLine(text) {
  return text.replace(/[\u0085\u2028\u2029]/g, (end) => `\\u${end.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

async function exportLines() {
  const lines = [];
  for await (const face of decidedFaces()) lines.push(`${oneLine(JSON.stringify(face))}\n`);
  download(lines, "decisions.jsonl", "application/jsonl");
}

async function exportCsv() {
  const lines = [`${FIELDS.join(",")}\n`];
  for await (const face of decidedFaces()) lines.push(`${FIELDS.map((name) => cell(name, face[name])).join(",")}\n`);
  download(lines, "decisions.csv", "text/csv");
}

// As in the CSV of a scan: odd bytes escaped, nothing that a spreadsheet would run, quotes by RFC 4180.
function cell(name, value) {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return value.join(" ");
  if (typeof value !== "string") return String(value);
  let text = value.replace(/[\ud800-\udfff]/gu, (half) => shown(half));
  if (/^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/u.test(text)) text = (name === "path" ? "./" : "'") + text;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function download(lines, name, type) {
  const link = el("a", { download: name });
  link.href = URL.createObjectURL(new Blob(lines, { type }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  exported = true;
  say(`${name}: ${lines.length} lines`);
}

async function importLines(file) {
  const wanted = new Map();
  for (const line of (await file.text()).split("\n")) {
    if (!line.trim()) continue;
    let told;
    try {
      told = JSON.parse(line);
    } catch {
      continue;
    }
    const at = Math.floor(Date.parse(told?.decided_at) / 1000);
    if (told?.sha256 && LETTERS[told.decision] && Number.isFinite(at)) {
      wanted.set(`${told.sha256}:${told.face}`, { decision: told.decision, at });
    }
  }
  let found = 0;
  for (let card = 0; card < deck.count && wanted.size; card += 1) {
    const details = await detailsOf(card);
    const told = wanted.get(`${details.sha256}:${details.face}`);
    if (!told) continue;
    decisions.set(card, told);
    found += 1;
  }
  if (found) keepSoon();
  return found;
}

addEventListener("pagehide", () => waiting && keepNow());
addEventListener("beforeunload", (event) => {
  if (waiting) keepNow();
  if (!isKept && !exported && decisions.size) event.preventDefault();
});

// Which cards are in view, and in which order: over typed columns alone, so that a hundred thousand take no time.

const UNDECIDED = "undecided";
const picked = { verdict: new Set(), declared: new Set(), reason: new Set(), spots: new Set(), decision: new Set() };

function counted(name, n) {
  const counts = new Array(n).fill(0);
  for (const code of columns[name]) counts[code] += 1;
  return counts;
}

function offer(name, options) {
  const box = document.getElementById(`filter-${name}`);
  box.hidden = options.length === 0;
  for (const { value, label, count } of options) {
    const input = el("input", { type: "checkbox", value, "data-filter": name });
    const parts = [input, el("span", {}, shown(label))];
    if (count !== undefined) parts.push(el("small", { class: "muted" }, String(count)));
    box.append(el("label", {}, ...parts));
  }
}

function offerFilters() {
  for (const name of ["verdict", "declared", "reason"]) {
    const counts = counted(name, deck.words[name].length);
    const known = deck.words[name].map((label, value) => ({ value, label, count: counts[value] }));
    offer(name, known.filter((option) => option.label !== "" && option.count > 0));
  }
  const found = deck.spots.map(({ bit, label }) => {
    let count = 0;
    for (const bits of columns.spots) count += bits & bit ? 1 : 0;
    return { value: bit, label, count };
  });
  offer("spots", found.filter((option) => option.count > 0));
  offer("decision", [UNDECIDED, ...CHOICES.map((choice) => choice.decision)].map((value) => ({ value, label: value })));
  const folders = document.getElementById("folders");
  folders.append(...deck.words.folder.slice(0, 200).map((name) => el("option", { value: shown(name) })));
}

function number(id) {
  const text = document.getElementById(id).value;
  return text === "" ? null : Number(text);
}

function readFilters() {
  for (const set of Object.values(picked)) set.clear();
  for (const input of document.querySelectorAll("input[data-filter]:checked")) {
    const { filter } = input.dataset;
    picked[filter].add(filter === "decision" ? input.value : Number(input.value));
  }
  const part = document.getElementById("folder").value.toLowerCase();
  const folders = part && deck.words.folder.map((name) => shown(name).toLowerCase().includes(part));
  return {
    folders, low: number("score-low"), high: number("score-high"), least: number("side-low"), most: number("side-high"),
  };
}

function passes(card, bounds) {
  const { verdict, declared, reason, spots, decision } = picked;
  if (verdict.size && !verdict.has(columns.verdict[card])) return false;
  if (declared.size && !declared.has(columns.declared[card])) return false;
  if (reason.size && !reason.has(columns.reason[card])) return false;
  if (spots.size && ![...spots].some((bit) => columns.spots[card] & bit)) return false;
  if (decision.size && !decision.has(decisions.get(card)?.decision ?? UNDECIDED)) return false;
  // A card without a score is within no bounds.
  if (bounds.low !== null && !(columns.score[card] >= bounds.low)) return false;
  if (bounds.high !== null && !(columns.score[card] <= bounds.high)) return false;
  if (bounds.least !== null && columns.side[card] < bounds.least) return false;
  if (bounds.most !== null && columns.side[card] > bounds.most) return false;
  return !bounds.folders || bounds.folders[columns.folder[card]];
}

// The same for the same page: whoever goes on tomorrow goes on with the same sample. (MurmurHash3's last step.)
function shuffled(card) {
  let mixed = card ^ parseInt(deck.id.slice(0, 8), 16);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

const ORDERS = {
  random: shuffled,
  suspicious: (card) => card,
  least: (card) => (Number.isNaN(columns.score[card]) ? Infinity : columns.score[card]),
  threshold: (card) => (Number.isNaN(columns.score[card]) ? Infinity : Math.abs(columns.score[card] - deck.threshold)),
  copies: (card) => -columns.copies[card],
  listed: (card) => columns.listed[card],
};

function cardsInView() {
  const bounds = readFilters();
  const found = [];
  for (let card = 0; card < deck.count; card += 1) if (passes(card, bounds)) found.push(card);
  const order = document.getElementById("order").value;
  if (order === "suspicious") return Uint32Array.from(found);
  const keys = new Map(found.map((card) => [card, ORDERS[order](card)]));
  return Uint32Array.from(found.sort((a, b) => keys.get(a) - keys.get(b) || a - b));
}

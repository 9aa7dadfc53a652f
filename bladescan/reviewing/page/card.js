// What a card and the sheet of all details look like.

const CHOICES = [
  { decision: "ai-generated", label: "AI-generated", keys: ["a", "1"] },
  { decision: "photographic", label: "Photographic", keys: ["p", "2"] },
  { decision: "unsure", label: "Unsure", keys: ["u", "3"] },
];
const MOST_TAIL = 36;
const MOST_END = 8;
const TONES = { "ai-generated": "bad", unreadable: "unsure", unsure: "unsure" };

function badge(text, tone) {
  return el("span", { class: `badge ${tone ?? ""}` }, text);
}

function choices(card, decision) {
  const buttons = CHOICES.map((choice) =>
    el("button", {
      type: "button", "data-choice": choice.decision, "data-card": card,
      "aria-pressed": String(decision === choice.decision), "aria-keyshortcuts": choice.keys[0].toUpperCase(),
    }, choice.label));
  return el("div", { class: "choices", role: "group", "aria-label": "Decision" }, ...buttons);
}

function media(details) {
  return el("div", { class: "media" }, crop(details), picture(details));
}

function crop(details) {
  if (!details.crop) return el("p", {}, details.face === null ? "no face" : "the face cannot be shown");
  const alt = details.subject === "image" ? "The middle of the picture" : "The face as the detector saw it";
  const image = el("img", { class: "see", alt, decoding: "async" });
  image.src = pictureUrl(details.crop);
  return el("div", { class: "clip", "data-reveal": true }, image, heat(details));
}

function picture(details) {
  const small = details.chunk.pictures[details.picture];
  if (!small) return el("p", {}, gone(details) ?? "the picture cannot be shown");
  const [width, height] = details.size;
  const drawing = svg("svg", {
    class: "see", viewBox: `0 0 ${width} ${height}`, width: "100%", height: "100%", role: "img",
    "aria-label": details.place ? "The picture, with a box around the face" : "The picture",
  }, svg("image", { href: pictureUrl(small), width, height, preserveAspectRatio: "none" }));
  if (details.place) {
    const [x0, y0, x1, y1] = details.place;
    const box = { x: x0 * width, y: y0 * height, width: (x1 - x0) * width, height: (y1 - y0) * height };
    drawing.append(svg("rect", { ...box, class: "outline" }), svg("rect", { ...box, class: "box" }));
  }
  drawing.append(...regionIn(details));
  return el("div", { class: "clip", "data-reveal": true }, drawing);
}

function gone(details) {
  if (details.verdict === "unreadable") return `unreadable: ${details.reason ?? "no reason given"}`;
  if (!details.gone) return null;
  return `cannot be read any more: ${details.gone}${details.gone_detail ? ` (${shown(details.gone_detail)})` : ""}`;
}

function placeOfScore(score) {
  const { low, high } = deck.curve;
  return Math.min(100, Math.max(0, (100 * (score - low)) / (high - low || 1)));
}

function chart(details) {
  if (!deck.curve || details.score === null) return null;
  // The curve is of one detector; a row with another threshold may come from another one.
  if (details.threshold !== undefined && details.threshold !== deck.threshold) return null;
  const mark = placeOfScore(details.score);
  const drawing = svg("svg", {
    class: "chart", viewBox: "0 0 100 30", preserveAspectRatio: "none", role: "img", "aria-label": scored(details),
  }, svg("use", { href: "#curve" }));
  if (details.threshold !== undefined) {
    const least = placeOfScore(details.threshold);
    drawing.prepend(svg("rect", { class: "zone", x: least, y: 0, width: 100 - least, height: 30 }));
    drawing.append(svg("line", { class: "threshold", x1: least, x2: least, y1: 0, y2: 30 }));
  }
  const flagged = details.threshold !== undefined && details.score > details.threshold;
  drawing.append(svg("line", { class: `mark ${flagged ? "bad" : ""}`, x1: mark, x2: mark, y1: 0, y2: 30 }));
  return drawing;
}

function scored(details) {
  if (details.score === null) return "no score";
  const flagged = details.threshold === undefined ? "no threshold" : `flagged above ${digits(details.threshold)}`;
  const p = details.p === undefined ? "" : `, p ${digits(details.p, 2)}`;
  const stable = details.stability === undefined ? "" : `, stable ${percent(details.stability)}`;
  return `score ${digits(details.score)}, ${flagged}${p}${stable}`;
}

// What each of several combined detectors says alone.
function alone(details) {
  const said = Object.entries(details.components ?? {}).map(([name, p]) => `${shown(name)} p ${digits(p, 2)}`);
  return said.length ? `each alone: ${said.join(", ")}` : null;
}

function declares(details) {
  if (!details.declared || details.declared === "none") return null;
  const by = [details.declared_by, details.declared_tool, details.declared_signer].filter(Boolean).map(shown);
  return `the file declares: ${details.declared}${by.length ? ` (${by.join(", ")})` : ""}`;
}

function warnings(card, details) {
  const bits = columns.spots[card];
  const found = deck.spots.filter((spot) => bits & spot.bit).map((spot) => `${spot.label}: ${spot.said}`);
  const why = details.verdict === "unreadable" ? gone(details) : null;
  return [why, ...found].filter(Boolean);
}

function facts(card, details) {
  const folder = details.path.slice(0, -baseName(details.path).length);
  const declared = declares(details);
  const lines = [
    details.subject === "image" && `judged as a whole (${details.tiles ?? "?"} tiles)`,
    details.side && `face ${details.side} px`,
    details.size && `picture ${details.size[0]} × ${details.size[1]}`,
    details.format && shown(details.format),
    details.frame && `frame ${details.frame}`,
  ].filter(Boolean);
  return el("ul", { class: "facts" },
    ...warnings(card, details).map((said) => el("li", { class: "warn" }, `⚠ ${said}`)),
    ...[alone(details), declared, restsOn(details), flips(details)].map((said) => said && el("li", {}, said)),
    lines.length > 0 && el("li", { class: "line" }, lines.join(", ")),
    folder && el("li", { class: "line muted", title: shown(folder) }, tail(shown(folder))));
}

// The end of a folder's name tells more than its beginning.
function tail(text) {
  return text.length > MOST_TAIL ? `…${text.slice(-MOST_TAIL)}` : text;
}

// So is the end of a file's name, where a narrow card must leave something out.
function heading(card, name) {
  const cut = Math.max(0, name.length - MOST_END);
  return el("h2", { id: `name-${card}`, title: name },
    el("span", { class: "start" }, name.slice(0, cut)), el("span", { class: "end" }, name.slice(cut)));
}

function cardElement(card, position, total) {
  const element = el("article", {
    class: "card", tabindex: -1, "data-card": card, "aria-posinset": position + 1, "aria-setsize": total,
    "aria-labelledby": `name-${card}`, "aria-busy": "true",
  }, el("p", { class: "muted" }, "Loading…"));
  return element;
}

function fillCard(element, card, details, decision) {
  const name = baseName(details.path);
  const copies = details.copies.length;
  element.replaceChildren(
    el("header", {},
      heading(card, shown(name)),
      copies > 0 && badge(`${copies + 1} copies`),
      badge(details.verdict, TONES[details.verdict]),
      el("button", { type: "button", "data-open": card, "aria-label": `Details of ${shown(name)}`, title: "Details" }, "…")),
    media(details),
    ...[chart(details)].filter(Boolean),
    el("p", { class: "scored" }, scored(details)),
    facts(card, details),
    choices(card, decision));
  requestAnimationFrame(() => {
    const list = element.querySelector(".facts");
    if (list && list.scrollHeight > list.clientHeight) list.tabIndex = 0; // so that keys can scroll it
  });
  element.setAttribute("aria-busy", "false");
}

function failCard(element, card, error) {
  element.replaceChildren(el("h2", { id: `name-${card}` }, "This card cannot be shown"), el("p", {}, error.message));
  element.setAttribute("aria-busy", "false");
}

const SHEET = [
  ["path", "File"], ["sha256", "SHA-256"], ["earlier", "Decided earlier"], ["verdict", "Verdict"], ["flagged_by", "Flagged by"], ["score", "Score"],
  ["threshold", "Flagged above"], ["p", "p-value"], ["stability", "Agree when changed"],
  ["reason", "Unreadable"], ["detail", "Because"], ["gone", "Now"],
  ["gone_detail", "Because"], ["subject", "Judged"], ["tiles", "Tiles"], ["face", "Row in the file"], ["frame", "Frame"], ["frames", "Frames"],
  ["rotation", "Turned by degrees"], ["side", "Face, pixels across"], ["format", "Format"], ["declared", "Declared"],
  ["declared_by", "Declared by"], ["declared_tool", "Tool"], ["declared_signer", "Signer"], ["c2pa", "C2PA manifest"],
];
const MOST_LISTED = 200;

function sheet(card, details, decision) {
  const entries = SHEET.filter(([name]) => details[name] !== undefined && details[name] !== null && details[name] !== "");
  const copies = details.copies.slice(0, MOST_LISTED);
  return [
    el("div", { class: "head" }, el("h2", { id: "detail-title" }, shown(baseName(details.path))),
      el("button", { type: "button", "data-close": true }, "Close")),
    media(details),
    ...[chart(details)].filter(Boolean),
    choices(card, decision),
    ...warnings(card, details).map((said) => el("p", { class: "beware" }, said)),
    ...[alone(details), covered(details), outlasts(details), flips(details), amongPhotographs(details)].filter(Boolean).map((said) => el("p", {}, said)),
    el("dl", {}, ...entries.flatMap(([name, title]) => [el("dt", {}, title), el("dd", {}, shown(details[name]))])),
    ...(copies.length ? [
      el("h3", {}, `${details.copies.length} near-duplicates, decided together with it`),
      el("ol", {}, ...copies.map((copy) => el("li", {}, shown(copy.path)))),
    ] : []),
  ];
}

function drawCurve() {
  if (!deck.curve) return;
  const step = 100 / deck.curve.heights.length;
  const bars = deck.curve.heights.map((height, i) =>
    `M${(i * step).toFixed(2)} 30v${(-28 * height).toFixed(2)}h${step.toFixed(2)}v${(28 * height).toFixed(2)}z`);
  document.getElementById("curve").setAttribute("d", bars.join(""));
}

// The page as a whole: what keys, buttons and filters do.

const detailSheet = document.getElementById("detail");
const help = document.getElementById("help");

function say(text) {
  document.getElementById("said").textContent = text;
}

function showProgress() {
  const done = decisions.size;
  const bar = document.getElementById("progress");
  bar.max = Math.max(1, deck.count);
  bar.value = done;
  const by = CHOICES.map(({ decision, label }) => {
    let count = 0;
    for (const told of decisions.values()) count += told.decision === decision ? 1 : 0;
    return `${count} ${label}`;
  });
  document.getElementById("progress-said").textContent = done
    ? `${done} of ${deck.count} decided: ${by.join(", ")}`
    : `Nothing of ${deck.count} decided yet`;
  document.getElementById("undo").disabled = undone.length === 0;
  for (const id of ["export-lines", "export-csv"]) document.getElementById(id).disabled = done === 0;
}

function refilter() {
  const card = view[current];
  view = cardsInView();
  const kept = view.indexOf(card);
  current = Math.max(kept, 0);
  page = Math.floor(current / PAGE);
  for (const element of elements.values()) element.remove();
  elements.clear();
  const all = view.length === deck.count;
  document.getElementById("shown").textContent = view.length
    ? `${all ? "" : `${view.length} of `}${deck.count} cards for ${deck.faces} rows of the scan` : "No card passes these filters.";
  document.getElementById("filters-said").textContent = all ? "" : `${view.length} of ${deck.count} cards`;
  sayPage();
  measure();
  draw();
}

function take(card, decision, how) {
  decide(card, decision, how);
  const now = decisions.get(card)?.decision;
  redraw(card);
  showProgress();
  say(`${now ?? "no decision"}. ${decisions.size} of ${deck.count} decided.`);
  return now;
}

function chooseAndGoOn(decision) {
  if (!view.length) return;
  const now = take(view[current], decision);
  if (now && current < view.length - 1) step(1);
  else if (detailSheet.open) openDetails(view[current]);
}

function takeBack() {
  const card = undo();
  if (card === null) return;
  redraw(card);
  showProgress();
  say(`Undone. ${decisions.size} of ${deck.count} decided.`);
  const place = view.indexOf(card);
  if (place >= 0) go(place);
  if (detailSheet.open && place >= 0) openDetails(card);
}

function step(by) {
  go(current + by, { focus: !detailSheet.open });
  if (detailSheet.open) openDetails(view[current]);
}

async function openDetails(card) {
  let details;
  try {
    details = await detailsOf(card);
  } catch {
    return;
  }
  detailSheet.classList.remove("revealed");
  detailSheet.replaceChildren(...sheet(card, details, decisions.get(card)?.decision));
  if (!detailSheet.open) detailSheet.showModal();
}

function toggleBlur() {
  const blurred = document.documentElement.classList.toggle("blurred");
  document.getElementById("blur").setAttribute("aria-pressed", String(blurred));
  say(blurred ? "Faces are blurred." : "Faces are shown.");
}

function reveal() {
  const target = detailSheet.open ? detailSheet : elements.get(view[current]);
  target?.classList.toggle("revealed");
}

const KEYS = {
  j: () => step(1), n: () => step(1), ArrowRight: () => step(1),
  k: () => step(-1), ArrowLeft: () => step(-1),
  z: takeBack, b: toggleBlur, m: toggleMaps, s: reveal,
  d: () => view.length && (detailSheet.open ? detailSheet.close() : openDetails(view[current])),
  f: () => {
    if (detailSheet.open) return;
    const filters = document.getElementById("filters");
    filters.open = true;
    filters.querySelector("summary").focus();
    filters.scrollIntoView({ block: "nearest" });
  },
  "?": () => detailSheet.open || help.open || help.showModal(),
};
for (const choice of CHOICES) for (const key of choice.keys) KEYS[key] = () => chooseAndGoOn(choice.decision);

function onKey(event) {
  const writes = event.target.matches?.("select, input:not([type=checkbox])");
  if (event.ctrlKey || event.metaKey || event.altKey || writes || help.open) return;
  const onCard = event.target.classList?.contains("card");
  const inFeed = feed.contains(event.target);
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const special = {
    Enter: onCard && KEYS.d, PageDown: inFeed && KEYS.j, PageUp: inFeed && KEYS.k,
    Home: inFeed && (() => go(0)), End: inFeed && (() => go(view.length - 1)),
  }[key];
  if (!special && key.length === 1 && !document.getElementById("keys-on").checked) return;
  const action = special || KEYS[key];
  if (!action || event.repeat && !/^(j|n|k|Arrow|Page)/.test(key)) return;
  event.preventDefault();
  action();
}

function onClick(event) {
  const target = event.target.closest?.("[data-choice], [data-open], [data-close], [data-reveal], .card");
  if (!target) return;
  const article = target.closest(".card");
  if (article) {
    const place = view.indexOf(Number(article.dataset.card));
    if (place >= 0 && place !== current) {
      current = place;
      draw();
    }
  }
  if ("choice" in target.dataset) {
    take(Number(target.dataset.card), target.dataset.choice, { toggles: true });
    if (detailSheet.open) openDetails(Number(target.dataset.card));
  } else if ("open" in target.dataset) openDetails(Number(target.dataset.open));
  else if ("close" in target.dataset) detailSheet.close();
  else if ("reveal" in target.dataset && document.documentElement.classList.contains("blurred")) reveal();
}

// Whoever tabs into a card makes it the current one.
function onFocus(event) {
  const article = event.target.closest?.(".card");
  const place = article ? view.indexOf(Number(article.dataset.card)) : -1;
  if (place < 0 || place === current) return;
  current = place;
  draw();
}

function turnPage(by) {
  go((page + by) * PAGE, { focus: false });
  scrollTo({ top: 0, behavior: "instant" });
  draw();
}

function begin() {
  readKept();
  drawCurve();
  offerFilters();
  document.getElementById("unkept").hidden = isKept;
  const on = (id, what, does) => document.getElementById(id).addEventListener(what, does);
  on("undo", "click", takeBack);
  on("blur", "click", toggleBlur);
  on("maps", "click", toggleMaps);
  document.getElementById("maps").hidden = !deck.explained;
  on("export-lines", "click", exportLines);
  on("export-csv", "click", exportCsv);
  on("import", "click", () => document.getElementById("import-file").click());
  on("import-file", "change", async (event) => {
    const [file] = event.target.files;
    if (!file) return;
    const found = await importLines(file);
    event.target.value = "";
    showProgress();
    for (const card of elements.keys()) redraw(card);
    say(`${found} decisions imported.`);
  });
  on("help-open", "click", () => help.showModal());
  on("help-close", "click", () => help.close());
  on("order", "change", refilter);
  on("filter-form", "input", refilter);
  on("filter-form", "submit", (event) => event.preventDefault());
  on("filter-form", "reset", () => setTimeout(refilter));
  on("page-before", "click", () => turnPage(-1));
  on("page-after", "click", () => turnPage(1));
  detailSheet.addEventListener("close", () => {
    // The event comes late: whoever has gone on by key since stays there.
    const has = document.activeElement;
    if (has === document.body || feed.contains(has)) elements.get(view[current])?.focus({ preventScroll: true });
  });
  document.addEventListener("keydown", onKey);
  document.addEventListener("click", onClick);
  feed.addEventListener("focusin", onFocus);
  let asked = false;
  const soon = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
  addEventListener("scroll", soon, { passive: true });
  new ResizeObserver(() => {
    measure();
    soon();
  }).observe(feed);
  showProgress();
  refilter();
}

begin();

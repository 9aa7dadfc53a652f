// The feed: only the cards near the window exist, whatever the number; the current one always does.

const PAGE = 5000; // cards of one page: browsers have a limit to the height of what they scroll
const CARD_REM = 27;
const LEAST_REM = 18;
const feed = document.getElementById("feed");
const elements = new Map();
let view = new Uint32Array();
let current = 0; // place in the view
let page = 0;
let layout = { columns: 1, width: 0, height: 0, gap: 0 };

function measure() {
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const gap = 0.75 * rem;
  const whole = feed.clientWidth;
  const columnCount = Math.max(1, Math.floor((whole + gap) / (LEAST_REM * rem + gap)));
  layout = { columns: columnCount, width: (whole - gap * (columnCount - 1)) / columnCount, height: CARD_REM * rem, gap };
}

function pageStart() {
  return page * PAGE;
}

function pageEnd() {
  return Math.min(view.length, pageStart() + PAGE);
}

function topOf(place) {
  return Math.floor((place - pageStart()) / layout.columns) * (layout.height + layout.gap);
}

function wantedPlaces() {
  const rowHeight = layout.height + layout.gap;
  const top = feed.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(-top / rowHeight) - 1);
  const last = Math.ceil((innerHeight - top) / rowHeight) + 1;
  const start = Math.min(pageEnd(), pageStart() + first * layout.columns);
  const stop = Math.min(pageEnd(), pageStart() + Math.max(last, 0) * layout.columns);
  const places = [];
  for (let place = start; place < stop; place += 1) places.push(place);
  if (current >= pageStart() && current < pageEnd() && (current < start || current >= stop)) {
    if (current < start) places.unshift(current);
    else places.push(current);
  }
  return places;
}

function draw() {
  const rows = Math.ceil((pageEnd() - pageStart()) / layout.columns);
  feed.style.height = `${Math.max(0, rows * (layout.height + layout.gap) - layout.gap)}px`;
  const places = wantedPlaces();
  const wanted = new Set(places.map((place) => view[place]));
  for (const [card, element] of elements) {
    if (!wanted.has(card)) {
      element.remove();
      elements.delete(card);
    }
  }
  let before = null;
  for (const place of places) {
    const element = elements.get(view[place]) ?? appear(view[place], place);
    // In the order of the cards, for whoever reads or tabs through them.
    if (element.previousElementSibling !== before || !element.isConnected) {
      if (before) before.after(element);
      else feed.prepend(element);
    }
    put(element, place);
    before = element;
  }
}

function put(element, place) {
  const column = (place - pageStart()) % layout.columns;
  element.style.width = `${layout.width}px`;
  element.style.height = `${layout.height}px`;
  element.style.top = `${topOf(place)}px`;
  element.style.left = `${column * (layout.width + layout.gap)}px`;
  element.classList.toggle("current", place === current);
  element.tabIndex = place === current ? 0 : -1;
  element.setAttribute("aria-posinset", place + 1);
  element.setAttribute("aria-setsize", view.length);
}

function appear(card, place) {
  const element = cardElement(card, place, view.length);
  elements.set(card, element);
  const known = heldCard(card);
  if (known) {
    fillCard(element, card, known, decisions.get(card)?.decision);
    return element;
  }
  detailsOf(card)
    .then((details) => fillCard(element, card, details, decisions.get(card)?.decision))
    .catch((error) => failCard(element, card, error));
  return element;
}

function redraw(card) {
  const element = elements.get(card);
  if (!element) return;
  for (const button of element.querySelectorAll("[data-choice]")) {
    button.setAttribute("aria-pressed", String(decisions.get(card)?.decision === button.dataset.choice));
  }
}

function go(place, { focus = true } = {}) {
  if (!view.length) return;
  current = Math.min(Math.max(place, 0), view.length - 1);
  const itsPage = Math.floor(current / PAGE);
  if (itsPage !== page) {
    page = itsPage;
    sayPage();
  }
  draw();
  const element = elements.get(view[current]);
  const { top, bottom } = element.getBoundingClientRect();
  const bar = document.querySelector(".bar");
  const covered = getComputedStyle(bar).position === "sticky" ? bar.offsetHeight + 8 : 0;
  if (top < covered || bottom > innerHeight) scrollTo({ top: scrollY + top - covered - 8, behavior: "instant" });
  draw();
  if (focus) element.focus({ preventScroll: true });
}

function sayPage() {
  const pages = Math.ceil(view.length / PAGE);
  document.querySelector(".pager").hidden = pages < 2;
  document.getElementById("page-said").textContent = `page ${page + 1} of ${pages}`;
  document.getElementById("page-before").disabled = page === 0;
  document.getElementById("page-after").disabled = page >= pages - 1;
}

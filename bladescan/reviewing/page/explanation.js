// What a score rests on: a map over the crop, the region that counts most in the picture, and both in words.

const LEAST_SHOWN = 0.15; // of the strongest cell

function heat(details) {
  const grid = details.explanation?.grid ?? [];
  const most = Math.max(0, ...grid.flat());
  if (!most) return null;
  const cells = grid.flatMap((row, y) => row.map((fall, x) => ({ x, y, share: fall / most })));
  const drawn = cells.filter(({ share }) => Math.abs(share) >= LEAST_SHOWN).map(({ x, y, share }) =>
    svg("rect", {
      x, y, width: 1, height: 1, class: share > 0 ? "supports" : "opposes", "fill-opacity": Math.min(0.65, 0.65 * Math.abs(share)),
    }));
  const size = `0 0 ${grid[0].length} ${grid.length}`;
  return svg("svg", { class: "heat", viewBox: size, "aria-hidden": "true" }, ...drawn);
}

function regionIn(details) {
  if (!details.explanation || !details.size) return [];
  const [x0, y0, x1, y1] = details.explanation.region;
  const box = { x: x0, y: y0, width: Math.max(0, x1 - x0), height: Math.max(0, y1 - y0) };
  return [svg("rect", { ...box, class: "heat outline" }), svg("rect", { ...box, class: "heat region" })];
}

function restsOn(details) {
  return details.explanation ? `rests on: the ${shown(details.explanation.where)} of the face` : null;
}

function flips(details) {
  const told = details.explanation?.flips ?? [];
  return told.length ? `another verdict when changed: ${told.map(shown).join(", ")}` : null;
}

function covered(details) {
  const fall = details.explanation?.fall;
  if (fall === undefined) return null;
  return `${restsOn(details)}; covered, the score ${fall < 0 ? "rises" : "falls"} by ${digits(Math.abs(fall))}`;
}

function outlasts(details) {
  const told = details.explanation;
  if (!told || told.stability === undefined || told.stability === null) return null;
  return `the same verdict in ${percent(told.stability)} of changed copies`;
}

function amongPhotographs(details) {
  const told = details.explanation;
  if (!told || !Number.isFinite(told.n_photographs)) return null;
  const far = Number.isFinite(told.n_as_far) ? `, ${told.n_as_far} are as far from their nearest` : "";
  return `${told.n_as_suspicious} of ${told.n_photographs} photographs score as high${far}`;
}

function toggleMaps() {
  if (!deck.explained) return;
  const on = document.documentElement.classList.toggle("maps");
  document.getElementById("maps").setAttribute("aria-pressed", String(on));
  say(on ? "Maps of what scores rest on are shown." : "Maps are hidden.");
}

// Elements made without a single string of markup, and texts from strangers made visible.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

// Control characters, marks that turn the direction of text, and halves of characters: shown, not obeyed.
function shown(text) {
  return String(text).replace(/[\p{C}\u2028\u2029]/gu, (character) => {
    const code = character.codePointAt(0);
    if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`;
    return `\\u{${code.toString(16)}}`;
  });
}

function baseName(path) {
  return path.slice(path.lastIndexOf("/") + 1) || path;
}

function digits(number, most = 3) {
  return Number(number.toPrecision(most)).toString();
}

function percent(share) {
  return `${digits(100 * share, 2)}%`;
}

function pictureUrl(base64) {
  return `data:image/webp;base64,${base64}`;
}

"use strict";
// The deck: typed columns to sort and filter by, and the cards' details in chunks that come and go.

const deck = JSON.parse(document.getElementById("deck").textContent);

const ARRAYS = {
  f4: Float32Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array,
};

function column(name) {
  const [kind, text] = deck.columns[name];
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new ARRAYS[kind](bytes.buffer);
}

const columns = Object.fromEntries(Object.keys(deck.columns).map((name) => [name, column(name)]));

const MOST_CHUNKS = 12; // held at once: some megabytes
const held = new Map();
const coming = new Map();
const arrived = new Map();

const policy = window.trustedTypes?.createPolicy("rows", {
  createScriptURL(name) {
    if (!/^rows\/\d{5}\.js$/.test(name)) throw new TypeError("not a file of rows");
    return name;
  },
});

// Files of rows call this: a page opened from a disk may load scripts, but read no other file.
window.bladescanRows = (number, rows) => arrived.set(number, rows);

function chunkOf(card) {
  return Math.floor(card / deck.chunk);
}

function heldCard(card) {
  const chunk = held.get(chunkOf(card));
  return chunk && { ...chunk.cards[card % deck.chunk], chunk };
}

async function detailsOf(card) {
  const number = chunkOf(card);
  if (!held.has(number)) {
    if (!coming.has(number)) {
      coming.set(number, loadChunk(number).finally(() => coming.delete(number)));
    }
    await coming.get(number);
  }
  return heldCard(card);
}

async function loadChunk(number) {
  const rows = deck.folder ? await loadFile(number) : inline(number);
  held.set(number, rows);
  while (held.size > MOST_CHUNKS) held.delete(held.keys().next().value);
}

function inline(number) {
  return JSON.parse(document.getElementById(`rows-${number}`).textContent);
}

function loadFile(number) {
  const name = `rows/${String(number).padStart(5, "0")}.js`;
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.onload = () => {
      script.remove();
      const rows = arrived.get(number);
      arrived.delete(number);
      if (rows) resolve(rows);
      else reject(new Error(`${name} holds no rows`));
    };
    script.onerror = () => {
      script.remove();
      reject(new Error(`${name} cannot be loaded: is it beside this page?`));
    };
    script.src = policy ? policy.createScriptURL(name) : name;
    document.head.append(script);
  });
}

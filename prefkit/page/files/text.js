// Texts of strangers as nodes: never as markup, and with every character written out that would hide or turn them.
const UNSAFE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/gu;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

// A text with its unsafe characters written out, each marked as such.
function shown(text) {
  const nodes = document.createDocumentFragment();
  let done = 0;
  for (const found of text.matchAll(UNSAFE)) {
    if (found.index > done) nodes.append(text.slice(done, found.index));
    nodes.append(make("span", { class: "unseen" }, escapeOf(found[0])));
    done = found.index + found[0].length;
  }
  nodes.append(text.slice(done));
  return nodes;
}

function escapeOf(mark) {
  return `\\u${mark.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

// The same as one line of plain text, for what takes no nodes: options, labels.
function plain(text) {
  return String(text).replace(UNSAFE, escapeOf).replace(/\s+/gu, " ");
}

function counted(number) {
  return number.toLocaleString("en-US");
}

function numeral(value) {
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return Math.abs(value) < 1e15 ? counted(value) : String(value);
  const rounded = Number(value.toPrecision(4));
  return Number.isInteger(rounded) && Math.abs(rounded) < 1e15 ? counted(rounded) : String(rounded);
}

// A short value as text: numbers to four digits, booleans in words, nothing as a dash.
function told(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return numeral(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}

// Every text within a value, whatever its shape: what a search looks into.
function stringsIn(value, found = []) {
  if (value === null || value === undefined) return found;
  if (typeof value !== "object") found.push(String(value));
  else for (const name in value) stringsIn(value[name], found);
  return found;
}

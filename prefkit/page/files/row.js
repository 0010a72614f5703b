// One row: the prompt, the two sides beside each other with what they do not share, what was said of it, the rest.
const LOOKS = ["chosen", "rejected"];
const LONG = 6_000;

function rowView(set, row, options) {
  const view = make("div", { class: "row" });
  if (row.prompt) view.append(make("h4", {}, "prompt"), make("div", { class: "prompt" }, ...turnsOf(row.prompt)));
  const sides = set.head.sides;
  if (sides.length) view.append(sidesOf(set, row, options));
  for (const column of set.of("conversation")) {
    if (["prompt", ...sides].includes(column.name) || !row[column.name]) continue;
    const body = [make("h4", {}, column.name), ...turnsOf(row[column.name])];
    view.append(make("section", { class: "side", "aria-label": column.name }, ...body));
  }
  for (const column of set.of("structure", "prose")) {
    const value = row[column.name];
    if (value === null || (Array.isArray(value) && !value.length)) continue;
    view.append(make("h4", {}, headline(column, value)), structureOf(column, value));
  }
  const rest = set.of("number", "flag", "category", "name").filter((column) => !sideOf(set, column.name));
  view.append(make("h4", {}, "all other columns"), factsOf(rest, row, (name) => name));
  return view;
}

function sideOf(set, name) {
  return set.head.sides.find((side) => name.startsWith(`${side}_`));
}

function headline(column, value) {
  return Array.isArray(value) ? `${column.name} (${counted(value.length)})` : column.name;
}

// conversations

function turnsOf(messages, cut = true) {
  return messages.map(([role, content, more]) => turnOf(role, cuttable([{ text: content, own: false }], cut), more));
}

function turnOf(role, said, more) {
  const turn = make("div", { class: "turn" }, make("span", { class: "role" }, shown(role)), said);
  if (more) turn.append(make("p", { class: "soft" }, `… ${counted(more)} more characters are not in this page`));
  return turn;
}

// Pieces as nodes; what is long begins folded, so that one row fits a screen.
function cuttable(pieces, cut, tag = "span") {
  const said = make("span", { class: "said", dir: "auto" });
  const total = pieces.reduce((sum, piece) => sum + piece.text.length, 0);
  const fill = (most) => {
    let left = most;
    said.replaceChildren();
    for (const piece of pieces) {
      if (left <= 0) break;
      const text = shown(piece.text.slice(0, left));
      said.append(piece.own ? make(tag, {}, text) : text);
      left -= piece.text.length;
    }
  };
  fill(cut ? LONG : Infinity);
  if (!cut || total <= LONG) return said;
  const button = make("button", { type: "button" }, `Show ${counted(total - LONG)} more characters`);
  const whole = make("div", {}, said, button);
  button.addEventListener("click", () => {
    fill(Infinity);
    button.remove();
  });
  return whole;
}

// pairs

function sidesOf(set, row, { marks }) {
  const { sides } = set.head;
  const [one, other] = sides.map((side) => row[side] ?? []);
  const compared = one.map((turn, at) => (marks && other[at] ? differences(turn[1], other[at][1]) : null));
  const bodies = [
    one.map(([role, text, more], at) => turnOf(role, cuttable(compared[at]?.one ?? [{ text, own: false }], true, "ins"), more)),
    other.map(([role, text, more], at) => turnOf(role, cuttable(compared[at]?.other ?? [{ text, own: false }], true, "del"), more)),
  ];
  const notes = compared.filter(Boolean).map((each) => each.note);
  const views = sides.map((side, at) => {
    const own = set.of("number", "flag", "category", "name").filter((column) => sideOf(set, column.name) === side);
    const facts = factsOf(own, row, (name) => name.slice(side.length + 1));
    const body = make("div", { class: "turns" }, ...bodies[at]);
    return make("section", { class: `side ${LOOKS[at]}`, "aria-label": side }, make("h4", {}, side), body, facts);
  });
  const note = notes.length ? make("p", { class: "soft" }, `Word by word: ${notes.join("; ")}.`) : "";
  return make("div", {}, make("div", { class: "sides" }, ...views), note);
}

function factsOf(columns, row, label) {
  const list = make("dl", { class: "facts" });
  for (const column of columns) {
    const value = row[column.name];
    if (value === null) continue;
    const unit = column.unit && !column.unit.startsWith("[") ? ` ${column.unit}` : "";
    list.append(make("div", {}, make("dt", {}, shown(label(column.name))), make("dd", {}, shown(told(value)), unit)));
  }
  return list;
}

// votes, rationales, ratings and whatever else is a list

function structureOf(column, value) {
  if (!Array.isArray(value) || typeof value[0] !== "object" || value[0] === null) {
    return make("div", { class: "turn" }, cuttable([{ text: stringsIn(value).join("\n"), own: false }], true));
  }
  if (value.some((entry) => Object.values(entry ?? {}).some(isLong))) return entriesOf(value);
  const names = [...new Set(value.flatMap((entry) => Object.keys(entry ?? {})))];
  const used = names.filter((name) => value.some((entry) => entry?.[name] !== null));
  const isNumeric = (name) => value.some((entry) => typeof entry?.[name] === "number");
  const head = make("tr", {}, ...used.map((name) => make("th", { scope: "col", class: isNumeric(name) ? "right" : null }, shown(name))));
  const rows = value.map((entry) => make("tr", {}, ...used.map((name) => cellOf(entry?.[name]))));
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": plain(column.name) }, table);
}

function isLong(value) {
  return typeof value === "string" && value.length > 60;
}

// Entries with texts, one below the other: what is short in a line, what is very long folded.
function entriesOf(entries) {
  const list = make("ul", { class: "entries" });
  for (const entry of entries) {
    const known = Object.entries(entry ?? {}).filter(([, value]) => value !== null);
    const short = known.filter(([, value]) => !isLong(value));
    const facts = short.map(([name, value]) => make("div", {}, make("dt", {}, shown(name)), make("dd", {}, shown(told(value)))));
    const item = make("li", {}, make("dl", { class: "facts" }, ...facts));
    for (const [name, value] of known.filter(([, each]) => isLong(each))) {
      const said = make("div", { class: "turn" }, cuttable([{ text: value, own: false }], true));
      const isFolded = value.length > 500 || value.split("\n").length > 5;
      const label = make(isFolded ? "summary" : "span", { class: "soft" }, shown(name));
      item.append(make(isFolded ? "details" : "div", {}, label, said));
    }
    list.append(item);
  }
  return list;
}

function cellOf(value) {
  const side = LOOKS.includes(value) ? value : null;
  return make("td", { class: side ?? (typeof value === "number" ? "right" : "text") }, shown(told(value)));
}

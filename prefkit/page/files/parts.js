// What the browser of rows is made of: its controls, its list, and marks for what was searched.

function browserParts() {
  const parts = {
    which: make("div", { class: "which", role: "group", "aria-label": "Which rows" }),
    ready: make("div", { class: "ready", role: "group", "aria-label": "Ready-made filters" }),
    copy: make("button", { type: "button" }, "Copy link to this view"),
    copied: make("p", { role: "note", class: "soft", "aria-live": "polite" }),
    search: make("input", { type: "search", placeholder: 'all words, or "a phrase"', "aria-keyshortcuts": "/" }),
    scope: make("select"),
    sort: make("select"),
    descending: make("select", {}, make("option", { value: "" }, "ascending"), make("option", { value: "descending" }, "descending")),
    add: make("select"),
    filters: make("div", { class: "filters" }),
    clear: make("button", { type: "button" }, "Show all"),
    status: make("p", { role: "status", class: "status" }),
    part: make("p", { class: "soft" }),
    list: make("ul", { role: "listbox", tabindex: "0", "aria-label": "Rows that match", "aria-keyshortcuts": "j k" }),
    pages: make("span", { class: "soft" }),
    before: make("button", { type: "button", "aria-label": "page before" }, "‹ Back"),
    after: make("button", { type: "button", "aria-label": "next page" }, "More ›"),
    previous: make("button", { type: "button" }, "Row before"),
    next: make("button", { type: "button" }, "Next row"),
    where: make("h3", { class: "where" }),
    marks: make("input", { type: "checkbox", checked: true }),
    keys: make("input", { type: "checkbox", checked: true }),
    row: make("div"),
  };
  const controls = make(
    "form",
    { class: "controls", role: "search", "aria-label": "Search, filter and sort rows" },
    labelled("search", parts.search),
    labelled("in", parts.scope),
    labelled("sort by", parts.sort),
    labelled("order", parts.descending),
    labelled("filter by", parts.add),
    parts.clear,
    parts.copy,
  );
  controls.addEventListener("submit", (event) => event.preventDefault());
  const paging = make("p", { class: "paging" }, parts.before, parts.pages, parts.after);
  const left = make("div", { class: "rows" }, parts.list, paging);
  const bar = make("div", { class: "bar-of-row" }, parts.where, parts.previous, parts.next, make("label", {}, parts.marks, " mark differences"));
  const right = make("div", { class: "looked-at", role: "region", "aria-label": "The row that is looked at" }, bar, parts.row);
  const said = make("div", { class: "said-of-rows" }, parts.status, parts.copied, parts.part);
  parts.all = [parts.which, keysOf(parts), controls, parts.ready, parts.filters, said, make("div", { class: "split" }, left, right), helpOf()];
  return parts;
}

function keysOf(parts) {
  const key = (name) => make("kbd", {}, name);
  const keys = ["Keys: ", key("/"), " searches, ", key("j"), " and ", key("k"), " go to the next row and the one before; in the list, "];
  keys.push("arrows, ", key("Page Down"), ", ", key("Page Up"), ", ", key("Home"), " and ", key("End"), " do, too. ");
  return make("p", { class: "soft" }, ...keys, make("label", {}, parts.keys, " single keys are on"));
}

function helpOf() {
  const marks = make("p", {}, "Of two sides, ", make("ins", {}, "what only the first has"), " and ", make("del", {}, "what only the second has"), " are underlined; ");
  marks.append("characters that cannot be seen or turn the direction of text are written out, as in ", make("span", { class: "unseen" }, "\\u202e"), ".");
  return make("div", { class: "help soft" }, marks);
}

function fillSelect(select, entries) {
  select.replaceChildren(...entries.map(([value, words]) => make("option", { value }, plain(words))));
}

function named(column) {
  return [column.name, column.name.replaceAll("_", " ")];
}

// Columns of numbers, with what people sort by first.
function sortable(set) {
  const first = ["margin", "flip_prob", "length_gap", "score_gap", "score", "p_chosen", "difficulty", "votes_for_chosen"];
  const place = (column) => (first.includes(column.name) ? first.indexOf(column.name) : first.length);
  return set.of("number").toSorted((one, other) => place(one) - place(other));
}

// An entry of the list: the first words of the prompt, and the number that decides where it stands.
function entryOf(state, row, at) {
  const { set, query } = state;
  const facts = [...new Set([query.sort, "drop_reason", "margin", "score", "length_gap"].filter((name) => name && set.columns.has(name)))];
  const said = facts.map((name) => `${name.replaceAll("_", " ")} ${told(valueAt(set.columns.get(name), row))}`);
  const words = set.head.snippets[row] || idOf(set, row) || "(empty)";
  return make(
    "li",
    { role: "option", id: `entry-${at}`, "data-at": at, "aria-selected": "false", "aria-posinset": at + 1, "aria-setsize": state.found.length },
    make("span", { dir: "auto" }, shown(words)),
    make("span", { class: "soft" }, shown(said.slice(0, query.sort ? 2 : 1).join(" · "))),
  );
}

// Scroll a list to its entry without moving the page.
function scrollWithin(list, entry) {
  const [top, bottom] = [entry.offsetTop - list.offsetTop, entry.offsetTop - list.offsetTop + entry.offsetHeight];
  if (top < list.scrollTop) list.scrollTop = top;
  else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
}

// Mark where the words of a search stand, where the browser can do so without touching the text.
function markFound(root, words) {
  if (!("highlights" in CSS)) return;
  const ranges = [];
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const text = node.data.toLowerCase();
    if (text.length !== node.data.length) continue;
    for (const word of words) {
      for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + word.length)) {
        const range = new Range();
        range.setStart(node, at);
        range.setEnd(node, at + word.length);
        ranges.push(range);
      }
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}

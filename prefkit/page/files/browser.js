// The browser of rows: a list to walk through, beside it the row that is looked at.
const WAIT_MS = 150;
const STEPS = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1, PageDown: PAGE, PageUp: -PAGE, Home: -Infinity, End: Infinity };
// Filters that people ask for most, as buttons, where the rows have the column and some of them match.
const READY = [
  ["raters disagree", "raters_disagree"],
  ["too close to call", "tie"],
  ["chosen scored lower", "scored_lower"],
  ["turned round by a step", "flipped"],
];

function startBrowser(root, names) {
  const state = { set: null, sets: new Map(), query: NOTHING(), found: [], at: 0, asked: 0, marks: true, keys: true };
  const it = { root, names, parts: browserParts(), state: { ...state, drawn: 0, first: names[0], isOpen: false } };
  root.append(...it.parts.all);
  root.hidden = false;
  const fail = (error) => {
    it.parts.status.textContent = `The rows cannot be shown: ${plain(error?.message ?? error)}`;
  };
  it.run = (work, ...given) => Promise.resolve(work(it, ...given)).catch(fail);
  let timer = 0;
  it.soon = () => {
    clearTimeout(timer);
    timer = setTimeout(() => it.run(ask), WAIT_MS);
  };
  listenToKeys(it);
  listenToQuery(it);
  listenToList(it);
  addEventListener("hashchange", () => it.run(follow));
  it.run(open);
}

async function open(it) {
  const sets = await Promise.all(it.names.map((name) => setOf(it, name)));
  it.parts.which.hidden = sets.length < 2;
  it.parts.which.append(...sets.map((set) => setButton(it, set)));
  await use(it, it.names[0]);
  await follow(it);
  it.state.isOpen = true;
  it.root.dataset.ready = "yes";
}

function setButton(it, { name, head }) {
  const words = plain(head.title);
  const button = make("button", { type: "button", value: name, "aria-pressed": "false" });
  button.append(`${words[0].toUpperCase()}${words.slice(1)} `, make("b", {}, counted(head.total)));
  button.addEventListener("click", () => it.run(use, name));
  return button;
}

function drawControls(it) {
  const { state, parts } = it;
  const { set, query } = state;
  const part = set.head.rows < set.head.total;
  parts.part.textContent = part
    ? `This page holds ${counted(set.head.rows)} of ${counted(set.head.total)}, spread evenly; \`prefkit show\` has all.`
    : "";
  fillSelect(parts.scope, [["", "anywhere"], ...set.of("conversation", "prose", "structure").map(named)]);
  fillSelect(parts.sort, [["", "as stored"], ...sortable(set).map(named)]);
  fillSelect(parts.add, [["", "a column …"], ...set.head.columns.map(named)]);
  parts.search.value = query.search;
  parts.scope.value = query.scope;
  parts.sort.value = query.sort;
  parts.descending.value = query.descending ? "descending" : "";
  parts.filters.replaceChildren(...query.filters.map((filter) => filterBox(it, filter)));
}

function filterBox(it, filter) {
  const { state, parts } = it;
  const view = filterView(state.set, filter, it.soon, () => {
    state.query.filters = state.query.filters.filter((each) => each !== filter);
    view.remove();
    parts.add.focus();
    it.run(ask);
  });
  return view;
}

function addFilter(it, name) {
  const filter = filterFor(it.state.set.columns.get(name));
  it.state.query.filters.push(filter);
  const view = filterBox(it, filter);
  it.parts.filters.append(view);
  view.querySelector("input, select")?.focus();
}

// The ready-made filters of a set, each with how many rows it finds; what finds none is left out.
function drawReady(it) {
  const { state, parts } = it;
  if (parts.ready.dataset.set === state.set.name) return;
  parts.ready.dataset.set = state.set.name;
  const buttons = READY.filter(([, name]) => state.set.columns.get(name)?.kind === "flag").map((each) => readyButton(it, each));
  parts.ready.replaceChildren(...buttons.filter(Boolean));
}

function readyButton(it, [words, name]) {
  const { set } = it.state;
  const column = set.columns.get(name);
  const found = column.values.reduce((sum, value) => sum + (value === true ? 1 : 0), 0);
  if (!found) return null;
  const told = words.replace("chosen", () => plain(set.head.sides[0] ?? "chosen"));
  const button = make("button", { type: "button" }, `${told} `, make("b", {}, counted(found)));
  button.addEventListener("click", () => it.run(use, set.name, { ...NOTHING(), filters: [{ ...filterFor(column), chosen: new Set([true]) }] }));
  return button;
}

function listenToKeys(it) {
  const { parts, state } = it;
  parts.list.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.key.length === 1 || !(event.key in STEPS)) return;
    event.preventDefault();
    it.run(move, STEPS[event.key]);
  });
  document.addEventListener("keydown", (event) => {
    if (!state.keys || event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea")) return;
    if (event.key === "/") {
      event.preventDefault();
      parts.search.focus();
    } else if (event.key === "j" || event.key === "k") it.run(move, STEPS[event.key]);
  });
  parts.search.addEventListener("keydown", (event) => {
    if (event.key === "Escape") parts.list.focus();
  });
  parts.keys.addEventListener("change", () => {
    state.keys = parts.keys.checked;
  });
}

function listenToQuery(it) {
  const { parts, state } = it;
  parts.search.addEventListener("focus", () => {
    const { set } = state;
    it.run(() => warm(set, state.query.scope, () => state.set !== set));
  });
  parts.search.addEventListener("input", () => {
    state.query.search = parts.search.value;
    it.soon();
  });
  const choose = (control, take) => control.addEventListener("change", () => {
    take(control.value);
    it.run(ask);
  });
  choose(parts.scope, (value) => Object.assign(state.query, { scope: value }));
  choose(parts.sort, (value) => Object.assign(state.query, { sort: value }));
  choose(parts.descending, (value) => Object.assign(state.query, { descending: value === "descending" }));
  parts.add.addEventListener("change", () => {
    if (parts.add.value) addFilter(it, parts.add.value);
    parts.add.value = "";
  });
  parts.clear.addEventListener("click", () => it.run(use, state.set.name));
  parts.copy.addEventListener("click", () => it.run(copyLink));
}

function listenToList(it) {
  const { parts, state } = it;
  parts.marks.addEventListener("change", () => {
    state.marks = parts.marks.checked;
    it.run(look);
  });
  parts.list.addEventListener("click", (event) => {
    const entry = event.target.closest("[role=option]");
    if (entry) it.run(move, Number(entry.dataset.at) - state.at);
  });
  parts.before.addEventListener("click", () => it.run(move, -PAGE));
  parts.after.addEventListener("click", () => it.run(move, PAGE));
  parts.previous.addEventListener("click", () => it.run(move, -1));
  parts.next.addEventListener("click", () => it.run(move, 1));
}

const place = document.getElementById("browser");
if (place) startBrowser(place, place.dataset.sets.split(" ").filter(Boolean));

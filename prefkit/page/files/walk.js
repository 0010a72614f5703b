// Walking through rows: ask for them, draw a page of the list, look at one row. `it` is the browser: its root, the
// names of its sets, its parts and its state.
const PAGE = 50;
const NOTHING = () => ({ search: "", scope: "", sort: "", descending: false, filters: [] });

async function setOf(it, name) {
  if (!it.state.sets.has(name)) it.state.sets.set(name, await openSet(name));
  return it.state.sets.get(name);
}

// Turn to a set of rows, with a query or with none.
async function use(it, name, query = NOTHING(), wanted = "") {
  const { state, parts } = it;
  state.set = await setOf(it, name);
  state.query = query;
  for (const button of parts.which.children) button.setAttribute("aria-pressed", String(button.value === name));
  drawControls(it);
  await ask(it, wanted ? placeOf(state.set, wanted) : -1);
}

// Ask, draw the first page, look at its first row, or at `wanted` where it is among them.
async function ask(it, wanted = -1) {
  const { state, parts, root } = it;
  const turn = (state.asked += 1);
  const began = performance.now();
  const progress = (share) => {
    parts.status.textContent = `Searching: ${Math.round(100 * share)} %`;
  };
  const found = await answer(state.set, state.query, () => turn !== state.asked, progress);
  if (found === null) return;
  state.found = found;
  state.at = Math.max(0, found.indexOf(wanted));
  parts.status.textContent = `${matched(state)}${found.length ? "" : elsewhere(it)}`;
  root.dataset.milliseconds = String(Math.round(performance.now() - began));
  root.dataset.answered = String(turn);
  drawReady(it);
  await draw(it);
  if (state.isOpen) address(it, wanted >= 0);
}

function matched({ set: { head }, found }) {
  const of = `${counted(head.rows)} ${head.noun}s`;
  return found.length === head.rows ? `${of}, all shown` : `${counted(found.length)} of ${of} match`;
}

// Where nothing matches a whole id that another set has, say which.
function elsewhere({ state }) {
  const id = state.query.search.trim();
  const others = [...state.sets.values()].filter((set) => set !== state.set && id && placeOf(set, id) >= 0);
  return others.length ? `; that id is among the ${plain(others[0].head.title)}` : "";
}

async function draw(it) {
  const { state, parts } = it;
  const page = Math.floor(state.at / PAGE);
  const shownRows = state.found.slice(page * PAGE, (page + 1) * PAGE);
  parts.list.replaceChildren(...shownRows.map((row, at) => entryOf(state, row, page * PAGE + at)));
  const pages = Math.ceil(state.found.length / PAGE);
  parts.pages.textContent = pages > 1 ? `Page ${counted(page + 1)} of ${counted(pages)}` : "";
  parts.before.disabled = page === 0;
  parts.after.disabled = page + 1 >= pages;
  await look(it);
}

async function look(it) {
  const { state, parts, root } = it;
  const entries = [...parts.list.children];
  for (const entry of entries) entry.setAttribute("aria-selected", "false");
  const current = entries[state.at % PAGE];
  parts.list.removeAttribute("aria-activedescendant");
  parts.previous.disabled = state.at <= 0;
  parts.next.disabled = state.at + 1 >= state.found.length;
  if (!current) {
    parts.row.replaceChildren(make("p", {}, "No row matches. Take away a word or a filter."));
    parts.where.textContent = "";
    return;
  }
  current.setAttribute("aria-selected", "true");
  parts.list.setAttribute("aria-activedescendant", current.id);
  scrollWithin(parts.list, current);
  const at = state.found[state.at];
  const turn = (state.drawn += 1);
  const row = await rowAt(state.set, at);
  if (turn !== state.drawn) return;
  const id = idOf(state.set, at);
  parts.where.replaceChildren(`Row ${counted(state.at + 1)} of ${counted(state.found.length)} `);
  if (id) parts.where.append(make("a", { href: `#${encodeURIComponent(id)}`, title: "a link to this row" }, make("code", {}, shown(id))));
  parts.row.replaceChildren(rowView(state.set, row, { marks: state.marks }));
  markFound(parts.row, wordsOf(state.query.search));
  root.dataset.row = id;
}

async function move(it, by) {
  const { state } = it;
  const to = Math.min(Math.max(0, state.at + by), state.found.length - 1);
  if (to < 0 || to === state.at) return;
  const turns = Math.floor(to / PAGE) !== Math.floor(state.at / PAGE);
  state.at = to;
  await (turns ? draw(it) : look(it));
  address(it, true);
}

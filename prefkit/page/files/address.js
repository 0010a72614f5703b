// The address of a view: which rows, searched, filtered and sorted how, written behind the page's #, to send or to keep.
// `#ID` alone is a row; `#?set=...` is a view. A filter by column c is min.c, max.c, is.c (as often as there are values),
// none.c (missing, among values), has.c (a text) or rows.c (`there`: with a value, `only`: without).

function addressOf({ state }, id) {
  const { query, set } = state;
  const parts = new URLSearchParams();
  const put = (name, value) => (value ? parts.append(name, value) : null);
  put("search", query.search);
  put("in", query.scope);
  put("sort", query.sort);
  put("order", query.descending ? "descending" : "");
  for (const filter of query.filters) putFilter(parts, set.columns.get(filter.column), filter);
  const isPlain = !parts.size && set.name === state.first;
  if (isPlain) return id ? `#${encodeURIComponent(id)}` : "#browse";
  const head = new URLSearchParams({ set: set.name });
  if (id) parts.append("row", id);
  return `#?${head}${parts.size ? `&${parts}` : ""}`;
}

function putFilter(parts, column, { low, high, missing, text, chosen }) {
  const put = (name, value) => parts.append(`${name}.${column.name}`, value);
  if (low !== null) put("min", low);
  if (high !== null) put("max", high);
  if (text) put("has", text);
  if (missing !== "any") put("rows", missing);
  for (const code of chosen) if (code !== -1) put(code === null ? "none" : "is", wordOf(column, code));
}

function wordOf(column, code) {
  if (code === null) return "1";
  return column.kind === "flag" ? (code ? "yes" : "no") : column.names[code];
}

// The query that an address asks for; what this set of rows does not have is passed over.
function queryOf(set, parts) {
  const query = NOTHING();
  const has = (name) => (set.columns.has(name) ? name : "");
  query.search = parts.get("search") ?? "";
  query.scope = has(parts.get("in"));
  query.sort = has(parts.get("sort"));
  query.descending = parts.get("order") === "descending";
  const filters = new Map();
  for (const [key, value] of parts) {
    const [, kind, name] = key.match(/^(min|max|is|none|has|rows)\.(.*)$/su) ?? [];
    if (!kind || !set.columns.has(name)) continue;
    if (!filters.has(name)) filters.set(name, filterFor(set.columns.get(name)));
    readFilter(set.columns.get(name), filters.get(name), kind, value);
  }
  query.filters = [...filters.values()];
  return query;
}

function readFilter(column, filter, kind, value) {
  const number = Number(value);
  if (kind === "min" && Number.isFinite(number)) filter.low = number;
  else if (kind === "max" && Number.isFinite(number)) filter.high = number;
  else if (kind === "has") filter.text = value;
  else if (kind === "rows" && value in MISSING) filter.missing = value;
  else if (kind === "none") filter.chosen.add(null);
  else if (kind === "is" && column.kind === "flag") filter.chosen.add(value === "yes");
  else if (kind === "is" && column.kind === "category") filter.chosen.add(column.names.indexOf(value)); // -1: no row has it
  else if (kind === "is") filter.text = value;
}

function address(it, withRow) {
  const { state } = it;
  const id = withRow && state.found.length ? idOf(state.set, state.found[state.at]) : "";
  history.replaceState(null, "", addressOf(it, id));
}

// What the address asks for: a view, or a row by its id, for which the set that has it is opened without a filter.
async function follow(it) {
  const { state, parts, root, names } = it;
  const said = location.hash.slice(1);
  if (said.startsWith("?")) {
    const asked = new URLSearchParams(said.slice(1));
    const name = names.includes(asked.get("set")) ? asked.get("set") : names[0];
    await use(it, name, queryOf(await setOf(it, name), asked), asked.get("row") ?? "");
    root.closest("section").scrollIntoView();
    return;
  }
  const id = unescaped(said);
  if (!id || document.getElementById(id)) return;
  for (const name of names) {
    const set = await setOf(it, name);
    const at = placeOf(set, id);
    if (at < 0) continue;
    if (state.set !== set || !state.found.includes(at)) await use(it, name);
    state.at = state.found.indexOf(at);
    await draw(it);
    root.closest("section").scrollIntoView();
    address(it, true);
    return;
  }
  parts.status.textContent = `No row of this page has the id ${plain(id).slice(0, 80)}`;
}

function unescaped(said) {
  try {
    return decodeURIComponent(said);
  } catch {
    return said;
  }
}

async function copyLink({ parts }) {
  try {
    await navigator.clipboard.writeText(location.href);
    parts.copied.textContent = "The link to this view is copied.";
  } catch {
    parts.copied.textContent = "The browser does not let a page copy; the link stands in the address bar.";
  }
}

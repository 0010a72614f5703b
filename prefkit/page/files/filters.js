// Filters: one field set a column, made from what the column holds.
const MISSING = { any: "with or without a value", there: "with a value", only: "without a value" };

function filterFor(column) {
  const filter = { column: column.name, low: null, high: null, missing: "any", text: "", chosen: new Set() };
  return filter;
}

// A field set that changes `filter` and says so.
function filterView(set, filter, changed, removed) {
  const column = set.columns.get(filter.column);
  const meaning = column.meaning ? `: ${column.meaning}` : "";
  const legend = make("legend", {}, make("b", {}, shown(column.name)), make("span", { class: "soft" }, meaning));
  const remove = make("button", { type: "button", onclick: removed }, "Remove", hidden(` the filter by ${plain(column.name)}`));
  return make("fieldset", {}, legend, ...controlsOf(set, column, filter, changed), remove);
}

function hidden(text) {
  return make("span", { class: "hidden" }, text);
}

function controlsOf(set, column, filter, changed) {
  if (column.kind === "number") return numberControls(set, column, filter, changed);
  if (column.kind === "flag") return choices([true, false, null], ["yes", "no", "missing"], column, filter, changed);
  if (column.kind === "category") {
    const codes = [...column.names.keys(), ...(column.values.includes(null) ? [null] : [])];
    return choices(codes, codes.map((code) => (code === null ? "missing" : column.names[code])), column, filter, changed);
  }
  const text = make("input", { type: "text", value: filter.text });
  text.addEventListener("input", () => {
    filter.text = text.value;
    changed();
  });
  return [labelled("contains", text), missingControl(filter, changed)];
}

function numberControls(set, column, filter, changed) {
  const known = numbersOf(set, column.name).filter((value) => !Number.isNaN(value));
  const [low, high] = known.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  const bound = (name, hint) => {
    const input = make("input", { type: "number", step: "any", placeholder: known.length ? numeral(hint) : "", value: filter[name] ?? "" });
    input.addEventListener("input", () => {
      filter[name] = input.value === "" ? null : input.valueAsNumber;
      if (Number.isNaN(filter[name])) filter[name] = null;
      changed();
    });
    return input;
  };
  const range = known.length ? `from ${numeral(low)} to ${numeral(high)}` : "no values";
  const found = make("span", { class: "soft" }, range);
  return [labelled("at least", bound("low", low)), labelled("at most", bound("high", high)), found, missingControl(filter, changed)];
}

function missingControl(filter, changed) {
  const select = make("select", {}, ...Object.entries(MISSING).map(([value, words]) => make("option", { value }, words)));
  select.value = filter.missing;
  select.addEventListener("change", () => {
    filter.missing = select.value;
    changed();
  });
  return labelled("rows", select);
}

function choices(codes, names, column, filter, changed) {
  const counts = new Map();
  for (const value of column.values) counts.set(value, (counts.get(value) ?? 0) + 1);
  const order = [...codes.keys()].filter((at) => counts.has(codes[at])).sort((a, b) => counts.get(codes[b]) - counts.get(codes[a]));
  return order.map((at) => {
    const box = make("input", { type: "checkbox", checked: filter.chosen.has(codes[at]) });
    box.addEventListener("change", () => {
      if (box.checked) filter.chosen.add(codes[at]);
      else filter.chosen.delete(codes[at]);
      changed();
    });
    return make("label", {}, box, " ", shown(names[at]), make("span", { class: "soft" }, ` ${counted(counts.get(codes[at]))}`));
  });
}

function labelled(words, control) {
  return make("label", {}, `${words} `, control);
}

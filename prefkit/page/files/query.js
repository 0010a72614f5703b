// Which rows are asked for, and in which order. Long work is done in slices, so that typing never waits for it.
const SLICE_MS = 24;

function pause() {
  return new Promise((resume) => {
    setTimeout(resume);
  });
}

// The words of a search, small: what stands in quotes is one.
function wordsOf(text) {
  return [...text.toLowerCase().matchAll(/"([^"]+)"|(\S+)/gu)].map((found) => found[1] ?? found[2].replaceAll('"', "")).filter(Boolean);
}

// The places of the rows that a query asks for, in its order; null once `isStale()`.
async function answer(set, query, isStale, progress) {
  const keep = new Uint8Array(set.head.rows).fill(1);
  for (const filter of query.filters) await narrow(set, filter, keep);
  const words = wordsOf(query.search);
  if (words.length && !(await search(set, words, query.scope, keep, isStale, progress))) return null;
  const found = [];
  for (let at = 0; at < keep.length; at += 1) if (keep[at]) found.push(at);
  return isStale() ? null : sorted(set, found, query.sort, query.descending);
}

function sorted(set, found, name, descending) {
  if (!name) return descending ? found.reverse() : found;
  const numbers = numbersOf(set, name);
  const sign = descending ? -1 : 1;
  const order = (one, other) => {
    const [a, b] = [numbers[one], numbers[other]];
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b) || one - other;
    return sign * (a < b ? -1 : a > b ? 1 : 0) || one - other;
  };
  return found.sort(order);
}

// filters

async function narrow(set, filter, keep) {
  const column = set.columns.get(filter.column);
  const passes = await testOf(set, column, filter);
  if (passes) for (let at = 0; at < keep.length; at += 1) if (keep[at] && !passes(at)) keep[at] = 0;
}

async function testOf(set, column, filter) {
  if (column.kind === "number") return numberTest(numbersOf(set, column.name), filter);
  if (column.kind === "flag" || column.kind === "category") {
    const { chosen } = filter;
    return chosen.size ? (at) => chosen.has(column.values[at]) : null;
  }
  if (column.kind === "name") {
    const wanted = filter.text.toLowerCase();
    return textTest((at) => column.values[at], wanted, filter.missing);
  }
  const blocks = await everyBlock(set);
  const value = (at) => {
    const found = blocks[Math.floor(at / set.head.block)][column.name][at % set.head.block];
    return Array.isArray(found) && !found.length ? null : found;
  };
  return textTest(value, filter.text.toLowerCase(), filter.missing);
}

function numberTest(numbers, { low, high, missing }) {
  if (low === null && high === null && missing === "any") return null;
  const [from, to] = [low ?? -Infinity, high ?? Infinity];
  if (missing === "only") return (at) => Number.isNaN(numbers[at]);
  return (at) => (numbers[at] >= from && numbers[at] <= to) || (missing === "any" && low === null && high === null);
}

function textTest(value, wanted, missing) {
  if (missing === "only") return (at) => value(at) === null;
  if (!wanted) return missing === "any" ? null : (at) => value(at) !== null;
  return (at) => {
    const found = value(at);
    return found !== null && stringsIn(found).some((text) => text.toLowerCase().includes(wanted));
  };
}

function everyBlock(set) {
  const count = Math.ceil(set.head.rows / set.head.block);
  return Promise.all(Array.from({ length: count }, (_, block) => blockOf(set, block)));
}

// searching

// Clears `keep` where a word is nowhere in what is searched; false once stale.
async function search(set, words, scope, keep, isStale, progress) {
  const size = set.head.block;
  let since = performance.now();
  for (let first = 0; first < keep.length; first += size) {
    const fields = await foldedFields(set, first / size, scope);
    const last = Math.min(first + size, keep.length);
    for (let at = first; at < last; at += 1) {
      if (keep[at] && !words.every((word) => fields.some((field) => field[at - first].includes(word)))) keep[at] = 0;
    }
    if (performance.now() - since > SLICE_MS) {
      progress(first / keep.length);
      await pause();
      since = performance.now();
    }
    if (isStale()) return false;
  }
  return true;
}

// Make ready what a search needs, a block at a time, while somebody thinks of words.
async function warm(set, scope, isStale) {
  for (let block = 0; block * set.head.block < set.head.rows && !isStale(); block += 1) {
    await foldedFields(set, block, scope);
    await pause();
  }
}

// The texts of a block in small letters, by what is searched, made when first needed.
async function foldedFields(set, block, scope) {
  const key = `${block}/${scope}`;
  if (!set.folded.has(key)) {
    const heavy = await blockOf(set, block);
    const first = block * set.head.block;
    const rows = Math.min(set.head.block, set.head.rows - first);
    const wanted = scope ? [set.columns.get(scope)] : searchable(set);
    set.folded.set(
      key,
      wanted.map((column) => Array.from({ length: rows }, (_, at) => foldedAt(column, heavy, at, first))),
    );
  }
  return set.folded.get(key);
}

function foldedAt(column, heavy, at, first) {
  const value = isHeavy(column) ? heavy[column.name][at] : valueAt(column, first + at);
  if (typeof value === "string") return value.toLowerCase();
  if (column.kind === "conversation") return (value ?? []).map((turn) => turn[1]).join("\n").toLowerCase();
  return stringsIn(value).join("\n").toLowerCase();
}

function searchable(set) {
  return set.of("conversation", "prose", "structure", "category", "name");
}

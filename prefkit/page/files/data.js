// Sets of rows: a head that is opened at once, and blocks of texts that are opened when somebody looks or searches.

async function unpacked(id) {
  const stream = new Blob([bytesOf(document.getElementById(id).textContent)]).stream().pipeThrough(new DecompressionStream("gzip"));
  // Decoding the whole at once is several times as fast as a response's own text().
  return JSON.parse(new TextDecoder().decode(await new Response(stream).arrayBuffer()));
}

function bytesOf(packed) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(packed);
  const binary = atob(packed);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at += 1) bytes[at] = binary.charCodeAt(at);
  return bytes;
}

async function openSet(name) {
  const head = await unpacked(`rows-${name}`);
  const columns = new Map(head.columns.map((column) => [column.name, column]));
  const of = (...kinds) => head.columns.filter((column) => kinds.includes(column.kind));
  return {
    name,
    head,
    columns,
    of,
    blocks: new Map(),
    folded: new Map(),
    numbers: new Map(),
    places: null,
  };
}

// The texts of a block, asked for once however many ask.
function blockOf(set, block) {
  if (!set.blocks.has(block)) set.blocks.set(block, unpacked(`rows-${set.name}-${block}`));
  return set.blocks.get(block);
}

// Everything of one row, by column: null where there is nothing.
async function rowAt(set, at) {
  const block = Math.floor(at / set.head.block);
  const heavy = await blockOf(set, block);
  const row = {};
  for (const column of set.head.columns) {
    row[column.name] = isHeavy(column) ? heavy[column.name][at - block * set.head.block] : valueAt(column, at);
  }
  return row;
}

function isHeavy(column) {
  return ["conversation", "prose", "structure"].includes(column.kind);
}

function valueAt(column, at) {
  const value = column.values[at];
  if (column.kind === "category") return value === null ? null : column.names[value];
  return column.kind === "number" && typeof value === "string" ? Number(value) : value;
}

// A column as numbers, missing as NaN. Made when first sorted or filtered by.
function numbersOf(set, name) {
  if (!set.numbers.has(name)) {
    const { values } = set.columns.get(name);
    set.numbers.set(name, Float64Array.from(values, (value) => (value === null ? NaN : Number(value))));
  }
  return set.numbers.get(name);
}

function idOf(set, at) {
  const column = set.columns.get("id");
  return column && !isHeavy(column) ? (valueAt(column, at) ?? "") : "";
}

// The place of the row with an id, or with the only id that begins so; -1 if there is none.
function placeOf(set, id) {
  if (set.places === null) {
    set.places = new Map();
    for (let at = 0; at < set.head.rows; at += 1) set.places.set(idOf(set, at), at);
  }
  if (set.places.has(id)) return set.places.get(id);
  const near = id.length < 6 ? [] : [...set.places.keys()].filter((known) => known.startsWith(id));
  return near.length === 1 ? set.places.get(near[0]) : -1;
}

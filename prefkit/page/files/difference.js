// Word by word, what two texts do not share: the longest common subsequence, as far as it can be had in a moment.
const MOST_CELLS = 6_000_000;
const LEAST_SHARED = 0.2;
const SHORT_RUN = 2;
const WORDS = /\s+|[\p{L}\p{N}\p{M}_]+|[^\s\p{L}\p{N}\p{M}_]/gu;

// Returns { one, other, note }: both texts as pieces { text, own }, `own` being what the other side lacks.
function differences(one, other) {
  const left = one.match(WORDS) ?? [];
  const right = other.match(WORDS) ?? [];
  const whole = (words, own) => [{ text: words.join(""), own }];
  if (one === other) return { one: whole(left, false), other: whole(right, false), note: "both sides are the same" };
  const shared = sharedWords(left, right);
  if (shared === null) {
    return { one: whole(left, false), other: whole(right, false), note: "too long to be compared word by word" };
  }
  smoothed(shared.left, shared.right);
  const size = (words, keep) => words.reduce((sum, word, at) => sum + (keep[at] && word.trim() ? 1 : 0), 0);
  const real = (words) => words.reduce((sum, word) => sum + (word.trim() ? 1 : 0), 0);
  const share = (2 * size(left, shared.left)) / Math.max(1, real(left) + real(right));
  if (share < LEAST_SHARED) {
    const note = `the sides share ${Math.round(100 * share)} % of their words in order, so differences are not marked`;
    return { one: whole(left, false), other: whole(right, false), note };
  }
  const note = `the sides share ${Math.round(100 * share)} % of their words in order`;
  return { one: pieces(left, shared.left), other: pieces(right, shared.right), note };
}

// For each word of both sides whether it is shared; null if the comparison would take too long.
function sharedWords(left, right) {
  const keep = { left: new Uint8Array(left.length), right: new Uint8Array(right.length) };
  let start = 0;
  while (start < left.length && start < right.length && left[start] === right[start]) {
    keep.left[start] = 1;
    keep.right[start] = 1;
    start += 1;
  }
  let [endLeft, endRight] = [left.length, right.length];
  while (endLeft > start && endRight > start && left[endLeft - 1] === right[endRight - 1]) {
    endLeft -= 1;
    endRight -= 1;
    keep.left[endLeft] = 1;
    keep.right[endRight] = 1;
  }
  const [rows, columns] = [endLeft - start, endRight - start];
  if ((rows + 1) * (columns + 1) > MOST_CELLS) return null;
  const lengths = commonLengths(left, right, start, rows, columns);
  let [row, column] = [0, 0];
  while (row < rows && column < columns) {
    const here = row * (columns + 1) + column;
    if (left[start + row] === right[start + column]) {
      keep.left[start + row] = 1;
      keep.right[start + column] = 1;
      row += 1;
      column += 1;
    } else if (lengths[here + columns + 1] >= lengths[here + 1]) row += 1;
    else column += 1;
  }
  return keep;
}

// The length of the longest common subsequence of what is left of both sides, from each pair of places.
function commonLengths(left, right, start, rows, columns) {
  const lengths = new Uint16Array((rows + 1) * (columns + 1));
  for (let row = rows - 1; row >= 0; row -= 1) {
    const word = left[start + row];
    const at = row * (columns + 1);
    for (let column = columns - 1; column >= 0; column -= 1) {
      const below = lengths[at + columns + 1 + column];
      const beside = lengths[at + column + 1];
      lengths[at + column] =
        word === right[start + column] ? lengths[at + columns + 2 + column] + 1 : Math.max(below, beside);
    }
  }
  return lengths;
}

// A shared word or two between differences is chance and hides what changed: it counts as changed on both sides.
function smoothed(left, right) {
  let [atLeft, atRight] = [0, 0];
  while (atLeft < left.length || atRight < right.length) {
    while (atLeft < left.length && !left[atLeft]) atLeft += 1;
    while (atRight < right.length && !right[atRight]) atRight += 1;
    let run = 0;
    while (left[atLeft + run] && right[atRight + run]) run += 1;
    const isEdge = atLeft === 0 || atRight === 0 || atLeft + run >= left.length || atRight + run >= right.length;
    if (run && run <= SHORT_RUN && !isEdge) {
      left.fill(0, atLeft, atLeft + run);
      right.fill(0, atRight, atRight + run);
    }
    atLeft += run;
    atRight += run;
    if (!run) break;
  }
}

// Words that follow each other and are alike in being shared or not; blanks around what is not shared stay unmarked.
function pieces(words, shared) {
  const found = [];
  const isOwn = (at) => at >= 0 && at < words.length && !shared[at];
  words.forEach((word, at) => {
    const own = isOwn(at) && (Boolean(word.trim()) || (isOwn(at - 1) && isOwn(at + 1)));
    const last = found.at(-1);
    if (last && last.own === own) last.text += word;
    else found.push({ text: word, own });
  });
  return found;
}

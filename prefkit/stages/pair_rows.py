"""What a pair row is made of: the prompt's columns once, the columns of both responses, and the votes on them."""

from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.columns import COLUMNS, JUDGEMENTS, MESSAGES, RATINGS, VOTES, types
from prefkit.errors import ContractError
from prefkit.judging import records
from prefkit.pairing import Matches
from prefkit.rng import child_ids
from prefkit.tables import Runs
from prefkit.texts import contents, digests, squeeze, transcripts
from prefkit.votes import votes_of

__all__ = ["check_prompts", "identical", "pair_schema", "pair_table"]

_HEAD, _BEGIN = 64, 40
_BLOCK_BYTES = 2**30  # a string array holds 2 GiB; all pairs of long responses hold more


def pair_schema(schema: pa.Schema, *, ranked: bool) -> pa.Schema:
    """Return the schema of pairs of responses of this schema."""
    fields = [schema.field(name) for name in schema.names if _is_shared(name)]
    fields += [pa.field("chosen", MESSAGES), pa.field("rejected", MESSAGES)]
    fields += [pa.field(name, kind) for name, kind in types("chosen_id", "rejected_id").items()]
    for name in _sided(schema):
        fields += [pa.field(f"chosen_{name}", schema.field(name).type)]
        fields += [pa.field(f"rejected_{name}", schema.field(name).type)]
    if ranked:
        fields += [pa.field(name, kind) for name, kind in types("chosen_place", "rejected_place").items()]
    if _has_ratings(schema) or _has_judgements(schema):
        fields.append(pa.field("votes", VOTES))
    if _has_judgements(schema):
        fields.append(pa.field("judgements", JUDGEMENTS))
    return pa.schema(fields)


def check_prompts(table: pa.Table, runs: Runs) -> None:
    """Raise ContractError if rows of one prompt_id have different prompts: only one of them would be kept."""
    spoken = transcripts(table["prompt"])
    changed = pc.not_equal(spoken.slice(1), spoken.slice(0, max(len(spoken) - 1, 0)))
    odd = np.setdiff1d(
        np.flatnonzero(pc.fill_null(changed, True).to_numpy()) + 1, runs.starts, assume_unique=True
    )
    if len(odd):
        what = f"rows with prompt_id '{table['prompt_id'][int(odd[0])].as_py()}' have different prompts"
        raise ContractError(what, hint="derive prompt_id from the prompt where the data is read")


def identical(responses: pa.ChunkedArray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return which pairs of rows, int64 [pairs] each, say the same, whitespace aside: bool [pairs].

    Most pairs differ in how they begin, so few texts are looked at from end to end.
    """
    heads = _heads(responses)
    told = (heads[first] != 0) & (heads[second] != 0)
    same: np.ndarray = ~told | (heads[first] == heads[second])
    rows, at = np.unique(np.concatenate([first[same], second[same]]), return_inverse=True)
    texts = digests(responses.take(pa.array(rows)))
    one, other = at.reshape(2, -1)
    same[same] = (texts[one] == texts[other]).all(axis=1)
    return same


def _heads(responses: pa.ChunkedArray) -> np.ndarray:
    """Return a hash of how each text begins, uint64 [rows]: of 40 characters, whitespace aside; 0 for a shorter text."""
    heads = squeeze(pl.Series(contents(responses)).str.slice(0, _HEAD).to_arrow().cast(pa.string()))
    begins = pl.Series(heads)
    hashes = begins.str.slice(0, _BEGIN).hash().to_numpy()
    return np.where(begins.str.len_chars().to_numpy() > _BEGIN, np.maximum(hashes, 1), 0)


def pair_table(
    table: pa.Table, chosen: np.ndarray, rejected: np.ndarray, ranks: np.ndarray | None, made: Matches
) -> pa.Table:
    """Return one row per pair of rows of `table`.

    `chosen` and `rejected` are row numbers, int64 [pairs]; `ranks` are places by position in the pool, and `made`
    the same pairs by those positions.
    """
    schema = pair_schema(table.schema, ranked=ranks is not None)
    parts = [schema.empty_table()]
    for block in _blocks(table, chosen, rejected):
        columns = _columns(table, chosen[block], rejected[block])
        if ranks is not None:
            columns["chosen_place"] = pa.array(ranks[made.chosen[block]])
            columns["rejected_place"] = pa.array(ranks[made.rejected[block]])
        parts.append(pa.table([columns[name] for name in schema.names], schema=schema))
    return pa.concat_tables(parts)


def _columns(
    table: pa.Table, chosen: np.ndarray, rejected: np.ndarray
) -> dict[str, pa.Array | pa.ChunkedArray]:
    judged = ["judgements"] if _has_judgements(table.schema) else []
    sided = ["id", "response", *_sided(table.schema), *judged]
    winners, losers = table.take(pa.array(chosen)), table.select(sided).take(pa.array(rejected))
    columns = {name: winners[name] for name in table.column_names if _is_shared(name)}
    columns |= {"chosen": winners["response"], "rejected": losers["response"]}
    for name in ("id", *_sided(table.schema)):
        columns |= {f"chosen_{name}": winners[name], f"rejected_{name}": losers[name]}
    columns["id"] = pa.array(
        child_ids("pair", winners["id"].to_pylist(), losers["id"].to_pylist()), pa.string()
    )
    if _has_ratings(table.schema):
        columns["votes"] = votes_of(table["ratings"], chosen, rejected)
    if judged:
        said = [side["judgements"] for side in (winners, losers)]
        votes = records.votes_from(said, winners["id"], losers["id"])
        columns["votes"] = records.joined(columns["votes"], votes) if "votes" in columns else votes
        columns["judgements"] = records.about(said, winners["id"], losers["id"])
    return columns


def _blocks(table: pa.Table, chosen: np.ndarray, rejected: np.ndarray) -> list[slice]:
    sizes = _bytes(contents(table["response"])) + _bytes(contents(table["prompt"]))
    filled = np.cumsum(np.maximum(sizes[chosen], sizes[rejected])) // _BLOCK_BYTES
    edges = [0, *(np.flatnonzero(np.diff(filled)) + 1).tolist(), len(chosen)]
    return [slice(start, end) for start, end in pairwise(edges) if end > start]


def _bytes(texts: pa.ChunkedArray) -> np.ndarray:
    sizes: np.ndarray = pc.fill_null(pc.binary_length(texts), 0).to_numpy().astype(np.int64)
    return sizes


def _is_shared(name: str) -> bool:
    return name in COLUMNS and {"prompt", "pair"} <= set(COLUMNS[name].levels)


def _has_ratings(schema: pa.Schema) -> bool:
    return "ratings" in schema.names and schema.field("ratings").type == RATINGS


def _has_judgements(schema: pa.Schema) -> bool:
    return "judgements" in schema.names and schema.field("judgements").type == JUDGEMENTS


def _sided(schema: pa.Schema) -> list[str]:
    skipped = {"response"}
    skipped |= {"ratings"} if _has_ratings(schema) else set()
    skipped |= {"judgements"} if _has_judgements(schema) else set()
    return [name for name in schema.names if name not in skipped and not _is_shared(name)]

"""Identity: digests of values, fingerprints of configs, keys of results.

A digest is of values, not of bytes: equal tables have equal digests however they are chunked, sliced or cut into
shards, since IPC bytes of equal tables differ by chunking and by leftover null bitmaps. Each column feeds three
streams (validity, lengths, values) that only ever append, so digesting shards one after another gives the digest of
their concatenation: the digest of a step does not know how it was sharded.

A step's key hashes what the stage does (name, version, config), the content it read, and the seed if it draws. Code is
not hashed: `version` is bumped by hand and guarded by golden digests.
"""

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from prefkit.errors import ContractError
from prefkit.stage import Stage

__all__ = ["Digester", "canonical", "digest", "fingerprint", "hash_json", "step_key"]


def fingerprint(stage: Stage) -> str:
    """Return the identity of what a stage does: name, version and config, nothing else."""
    return hash_json({"stage": stage.name, "version": stage.version, "config": canonical(stage)})


def step_key(
    stage: Stage, seed: int, inputs: Sequence[str], models: Sequence[str] = (), files: Sequence[str] = ()
) -> str:
    """Return where a result is filed.

    `inputs` are digests of what was read; `models` fingerprints of local weights the stage asks (hub models are
    already in the config by id and revision); `files` digests of files it reads beside its rows. The seed counts only
    if the stage draws.
    """
    parts: dict[str, Any] = {"stage": fingerprint(stage), "inputs": list(inputs)}
    if stage.draws():
        parts["seed"] = seed
    if models:
        parts["models"] = sorted(models)
    if files:
        parts["files"] = list(files)
    return hash_json(parts)


def canonical(config: BaseModel) -> Any:
    """Return a config as plain JSON values. Raises ContractError for what has no canonical form."""
    try:
        value = json.loads(json.dumps(config.model_dump(mode="json"), allow_nan=False))
    except (TypeError, ValueError) as error:
        what = f"{type(config).__name__} has a value with no canonical form: {error}"
        raise ContractError(what, hint="use finite numbers, text, lists and mappings") from error
    return value


def hash_json(value: object) -> str:
    """Return 32 hex digits of blake2b over canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def digest(table: pa.Table) -> str:
    """Return the identity of a table's content, whatever its chunks, slices and metadata: 32 hex digits."""
    digester = Digester(table.schema)
    digester.update(table)
    return digester.hexdigest()


class Digester:
    """Digest tables of one schema as if they were concatenated."""

    def __init__(self, schema: pa.Schema, types: Sequence[str] = ()) -> None:
        """Digest tables of a schema. `types` are the names of its types, where a file format has changed them."""
        self._schema = schema.remove_metadata()
        self._types = types or [str(field.type) for field in self._schema]
        self._streams: dict[str, blake2b] = {}
        self._rows = 0

    def update(self, table: pa.Table, columns: Sequence[str] | None = None) -> None:
        """Append a table's rows; or only these columns of them, since threads may take some columns each."""
        names = self._schema.names if columns is None else columns
        if self._schema.names[0] in names:
            self._rows += table.num_rows
        for name in names:
            for chunk in table[name].chunks:
                if len(chunk):  # an empty chunk is no content; it must not even open a stream
                    self._column(name, chunk)

    def hexdigest(self) -> str:
        """Return the digest of all rows so far."""
        fields = [[name, kind] for name, kind in zip(self._schema.names, self._types, strict=True)]
        streams = {path: stream.hexdigest() for path, stream in self._streams.items()}
        return hash_json({"fields": fields, "rows": self._rows, "streams": streams})

    def _column(self, path: str, array: pa.Array) -> None:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        self._feed(path + "?", np.asarray(array.is_valid().to_numpy(zero_copy_only=False), dtype=np.uint8))
        if array.null_count:
            array = array.drop_null()
        if len(array):
            self._values(path, array)

    def _values(self, path: str, array: pa.Array) -> None:
        kind = array.type
        if pa.types.is_null(kind):
            return
        if pa.types.is_struct(kind):
            for index, child in enumerate(array.flatten()):
                self._column(f"{path}.{kind.field(index).name}", child)
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            self._feed(
                path + "#", pc.list_value_length(array).to_numpy(zero_copy_only=False).astype(np.int64)
            )
            self._column(path + "[]", array.flatten())
        elif _is_text(kind):
            self._feed(path + "#", pc.binary_length(array).to_numpy(zero_copy_only=False).astype(np.int64))
            self._feed(path, _text_bytes(array))
        elif pa.types.is_boolean(kind):
            self._feed(path, array.to_numpy(zero_copy_only=False).astype(np.uint8))
        elif pa.types.is_floating(kind):
            self._feed(path, _plain_floats(array.to_numpy(zero_copy_only=False)))
        elif pa.types.is_primitive(kind):
            self._feed(path, np.ascontiguousarray(array.to_numpy(zero_copy_only=False)))
        else:
            what = f"column '{path}' has type {kind}, which has no digest"
            raise ContractError(what, hint="use strings, numbers, booleans, lists and structs")

    def _feed(self, stream: str, data: Any) -> None:
        if stream not in self._streams:
            self._streams[stream] = blake2b(digest_size=16)
        self._streams[stream].update(data)


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


def _text_bytes(array: pa.Array) -> memoryview:
    """Return the bytes of a text array without nulls, sliced to what it shows."""
    wide = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    _, offsets, data = array.buffers()
    if data is None:
        return memoryview(b"")
    ends = np.frombuffer(offsets, dtype=np.int64 if wide else np.int32)
    first, last = int(ends[array.offset]), int(ends[array.offset + len(array)])
    return memoryview(data)[first:last]


def _plain_floats(values: np.ndarray) -> np.ndarray:
    """Make values that compare equal have equal bytes: one zero, one NaN."""
    plain = values + values.dtype.type(0)
    plain[np.isnan(plain)] = np.nan
    return np.ascontiguousarray(plain)

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest
from pydantic import BaseModel

from prefkit.columns import MESSAGES
from prefkit.rules import AnyRule, Judged, judged


class Holder(BaseModel):
    rule: AnyRule


@pytest.fixture
def judge():
    """Judge texts by a rule as recipes spell it; `columns` stand beside the response."""

    def judge(spelled: str | Mapping[str, Any], texts: Sequence[str | None], **columns: Sequence[str | None]):
        said = [None if text is None else [{"role": "assistant", "content": text}] for text in texts]
        beside = {name: pa.array(values, pa.string()) for name, values in columns.items()}
        found = judged(Holder(rule=spelled).rule, pa.table({"response": pa.array(said, MESSAGES), **beside}))
        assert found.scores.type == pa.float64()
        return Judged(found.scores.to_pylist(), found.notes)

    return judge

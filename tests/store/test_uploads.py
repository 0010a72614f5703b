"""Uploads beside the work: several at once, never a record before what it names, and no failure forgotten."""

from threading import Barrier, Event

import pyarrow as pa
import pytest

from prefkit.errors import StoreError
from prefkit.manifest import Made, Part, Rows
from prefkit.store import Store
from prefkit.uploads import Uploads


@pytest.fixture
def uploads():
    begun = Uploads()
    begun.begin()
    yield begun
    begun.end()


def fail() -> None:
    raise StoreError("no room")


def test_several_go_at_once(uploads):
    meeting, told = Barrier(4), list[int]()

    def meet() -> None:
        told.append(meeting.wait(timeout=30))

    for _ in range(4):
        uploads.send(meet)
    uploads.wait()
    assert sorted(told) == [0, 1, 2, 3]


def test_a_record_is_sent_after_all_before_it(uploads):
    gate, order = Event(), list[str]()

    def stand() -> None:
        assert gate.wait(30)
        order.append("object")

    uploads.send(stand)
    uploads.send_after(lambda: order.append("record"))
    uploads.send(gate.set)
    uploads.wait()
    assert order == ["object", "record"]


def test_no_record_is_sent_once_an_upload_has_failed_and_each_who_asks_is_told(uploads):
    sent = list[str]()
    uploads.send(fail)
    with pytest.raises(StoreError, match="no room"):  # at the latest once all is done
        for name in ("one", "two"):
            uploads.send_after(lambda name=name: sent.append(name))
        uploads.wait()
    for ask in (uploads.wait, lambda: uploads.send_after(lambda: sent.append("three"))):
        with pytest.raises(StoreError, match="no room"):
            ask()
    uploads.end()
    assert sent == []
    uploads.send_after(lambda: sent.append("after the build"))
    assert sent == ["after the build"]


def test_few_wait(uploads):
    gate, begun = Event(), list[int]()

    def stand(number: int) -> None:
        begun.append(number)
        assert gate.wait(30)

    for number in range(24):
        uploads.send(lambda number=number: stand(number))
    assert len(begun) <= 8
    gate.set()
    uploads.wait()
    assert sorted(begun) == list(range(24))


def test_outside_a_build_a_file_is_there_at_once(memory):
    store = Store(memory)
    shard = store.put(pa.table({"id": ["a"]}))
    assert Store(memory).has(shard)


def test_where_an_object_cannot_be_sent_neither_its_part_nor_a_ref_is_filed(memory, monkeypatch):
    store = Store(memory)
    with pytest.raises(StoreError, match="no room"), store.locked():
        monkeypatch.setattr(store.remote, "upload", lambda *_: fail())
        shard = store.put(pa.table({"id": ["a"]}))
        part = Part(key="k", outputs=(shard,), rows=Rows(read=1, kept=1), made=Made(prefkit="1", python="3"))
        try:
            store.save_part(part)
        finally:
            store.save_refs("tiny", {"00-data": "k"}, {"name": "tiny"})
    assert Store(memory).parts(["k"]) == {}
    assert Store(memory).runs() == []

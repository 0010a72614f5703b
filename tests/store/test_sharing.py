"""Answers of engines between machines: each is sent once, none is lost, and the last one counts."""

import sqlite3

import pytest

from prefkit.engines.answers import Memo
from prefkit.errors import StoreError
from prefkit.sharing import fold_in, share
from prefkit.store import Store


def known(store: Store) -> dict[bytes, bytes]:
    keys = [bytes([number]) * 16 for number in range(256)]
    return {key[:1]: answer for key, answer in Memo(store.answers(), read_only=True).find(keys).items()}


def keep(store: Store, number: int, answer: bytes, *, instead: bool = False) -> None:
    Memo(store.answers()).remember(bytes([number]) * 16, answer, instead=instead)


def test_answers_of_one_machine_are_another_ones(memory, machine):
    one = Store(memory)
    with one.locked():
        keep(one, 1, b'"yes"')
    machine("two")
    assert known(Store(memory)) == {b"\x01": b'"yes"'}


def test_an_answer_is_sent_once_and_not_sent_back(memory, machine):
    one = Store(memory)
    with one.locked():
        keep(one, 1, b'"yes"')
    with one.locked():
        pass
    machine("two")
    with Store(memory).locked():
        known(Store(memory))
    assert len(Store(memory).remote.listed("memo")) == 1


def test_a_failing_build_still_sends_what_it_was_answered(memory, machine):
    one = Store(memory)
    try:
        with one.locked():
            keep(one, 1, b'"yes"')
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    machine("two")
    assert known(Store(memory)) == {b"\x01": b'"yes"'}


def test_answers_of_a_killed_build_are_sent_by_the_next_on_that_machine(memory, machine):
    keep(Store(memory), 1, b'"yes"')  # and no more: as after a kill -9
    with Store(memory).locked():
        pass
    machine("two")
    assert known(Store(memory)) == {b"\x01": b'"yes"'}


def test_where_two_machines_were_answered_differently_the_last_counts_everywhere(memory, machine):
    one = Store(memory)
    with one.locked():
        keep(one, 1, b'"first"')
    machine("two")
    two = Store(memory)
    with two.locked():
        keep(two, 1, b'"second"', instead=True)
    assert known(two) == {b"\x01": b'"second"'}
    for name in ("one", "three"):
        machine(name)
        assert known(Store(memory)) == {b"\x01": b'"second"'}


def test_an_answer_that_is_not_sent_yet_stands_over_what_others_sent(memory, machine):
    machine("two")
    two = Store(memory)
    keep(two, 1, b'"mine"')
    machine("one")
    one = Store(memory)
    with one.locked():
        keep(one, 1, b'"theirs"')
    fold_in(two.root / "memo.sqlite", two.remote)
    assert Memo(two.root / "memo.sqlite").find([b"\x01" * 16]) == {b"\x01" * 16: b'"mine"'}
    share(two.root / "memo.sqlite", two.remote)
    machine("three")
    assert known(Store(memory)) == {b"\x01": b'"mine"'}


def test_a_file_of_answers_that_is_torn_or_strange_is_left_alone(memory, machine):
    one = Store(memory)
    with one.locked():
        keep(one, 1, b'"yes"')
    name = next(iter(one.remote.listed("memo")))
    one.remote.write(name, one.remote.read(name)[:-30])
    one.remote.write("memo/ffff.arrow", b"no arrow file")
    machine("two")
    assert known(Store(memory)) == {}


def test_answers_from_before_a_store_was_shared_are_sent_too(memory, machine):
    one = Store(memory)
    Memo(one.root / "memo.sqlite").remember(b"\x01" * 16, b'"old"')
    with one.locked():
        one.answers()
    machine("two")
    assert known(Store(memory)) == {b"\x01": b'"old"'}


def test_many_answers_go_in_files_of_a_bounded_size(memory, machine):
    one = Store(memory)
    with one.locked():
        memo = Memo(one.answers())
        for number in range(40):
            memo.remember(bytes([number]) * 16, b'"' + b"x" * (1 << 20) + b'"')
    sizes = [entry.bytes for entry in one.remote.listed("memo").values()]
    assert len(sizes) == 2
    assert max(sizes) < 35 << 20
    machine("two")
    assert len(known(Store(memory))) == 40


def test_a_trigger_that_is_not_ours_is_refused(memory):
    path = Store(memory).answers()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TRIGGER other AFTER INSERT ON answers BEGIN DELETE FROM answers; END")
    db.close()
    with pytest.raises(StoreError, match="not its own"):
        Store(memory).answers()

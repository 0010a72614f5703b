"""Which executor the flags choose, and what is said of those that make no sense."""

import re
import socket

import pytest

from prefkit.cli.executing import executing
from prefkit.errors import PrefkitError
from prefkit.executors.local import Local
from prefkit.executors.ray import OnRay
from prefkit.executors.ray_cluster import join
from prefkit.executors.ray_sizes import Bounds


def test_the_default_is_this_machine():
    with executing("local", "", "", 3) as executor:
        assert executor == Local(3)


def test_ray_is_not_joined_before_there_is_something_to_make():
    with executing("ray", "host.invalid:1", "2:4", 3) as executor:
        assert isinstance(executor, OnRay)
        assert executor.jobs == 3
        assert executor.workers == Bounds(2, 4)
        assert list(executor.make(None, [])) == []


@pytest.mark.parametrize(
    ("flags", "said", "hint"),
    [
        (("rai", "", "", 1), "'rai' is no executor", "did you mean 'ray'?"),
        (("local", "host:1", "", 1), "this flag is of the Ray executor", "--executor ray"),
        (("local", "", "4", 1), "this flag is of the Ray executor", "--executor ray"),
        (("ray", "", "many", 1), "'many' is not MAX or MIN:MAX", "--ray-workers 1:8"),
    ],
)
def test_flags_that_make_no_sense_are_refused_with_what_would(flags, said, hint):
    with pytest.raises(PrefkitError) as caught, executing(*flags):
        pass
    assert (caught.value.what, caught.value.hint) == (said, hint)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ray://head:10001", "a build is a part of the cluster, and Ray's client is none"),
        ("nowhere", "'nowhere' is not HOST:PORT"),
        ("localhost:99999", "no Ray cluster answers"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused_at_once(address, said):
    pytest.importorskip("ray")
    with pytest.raises(PrefkitError, match=re.escape(said)):
        join(address)


def test_a_place_where_nobody_listens_is_said_to_be_no_cluster():
    pytest.importorskip("ray")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{one.getsockname()[1]}"
    with pytest.raises(PrefkitError, match="no Ray cluster answers") as caught:
        join(address)
    assert caught.value.where == f"--ray-address {address}"
    assert "ray status" in caught.value.hint

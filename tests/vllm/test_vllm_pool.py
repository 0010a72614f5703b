"""Several processes with a vLLM each: the same answers, and none lost when one dies."""

import os
import signal
from importlib.util import find_spec

import pytest

from prefkit.engines import Completion, in_order
from prefkit.errors import EngineError

pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed: see .ci/vllm"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def pool(folders):
    from prefkit.engines import Model
    from prefkit.engines.vllm_options import read_options
    from prefkit.engines.vllm_pool import Pool

    options = read_options("data_parallel=2&max_model_len=256&enforce_eager=true&kv_cache_memory_bytes=64MiB")
    made = Pool(Model(id=str(folders.policy)), "language", options, "float32")
    yield made
    made.close()
    assert made.pids() == []


def test_two_processes_answer_as_one_does(pool, engine, policy, ask):
    requests = [ask(f"say {at % 3}", seed=at, max_tokens=16, top_logprobs=2) for at in range(12)]
    requests.append(ask("x " * 300))
    mine = in_order(pool.ask("generate", requests), len(requests))
    its = in_order(engine.generate(policy, requests), len(requests))
    assert len(pool.pids()) == 2
    assert mine[-1] == its[-1]
    assert [one[:4] for one in mine[:-1]] == [one[:4] for one in its[:-1]]
    assert mine[0].tops == its[0].tops


def test_a_process_that_dies_is_replaced_and_nothing_is_lost(pool, ask):
    requests = [ask(f"say {at}", seed=at, max_tokens=100) for at in range(32)]
    found, killed = {}, None
    for position, answer in pool.ask("generate", requests):
        assert position not in found
        found[position] = answer
        if killed is None:
            killed = pool.pids()[0]
            os.kill(killed, signal.SIGKILL)
    assert sorted(found) == list(range(32))
    assert all(isinstance(answer, Completion) for answer in found.values())
    assert killed not in pool.pids()
    assert len(pool.pids()) == 2


def test_a_process_that_keeps_dying_ends_the_work_with_its_last_words(pool, ask):
    requests = [ask(f"say {at}", seed=at, max_tokens=200) for at in range(8)]
    gone = []

    def kill() -> None:
        for pid in pool.pids():
            if pid not in gone:
                os.kill(pid, signal.SIGKILL)
                gone.append(pid)

    kill()
    with pytest.raises(EngineError, match="ended with code -9, twice over"):
        for _ in pool.ask("generate", requests):
            kill()
    assert pool.pids() == []

import subprocess
import sys

import pytest

from prefkit.engines import Conversation, Message, Model, Request, Soup
from prefkit.engines.placement import ENGINES, Placement, open_engines
from prefkit.engines.vllm_options import VllmOptions, is_installed, read_options
from prefkit.engines.vllm_pool import deal, devices_for
from prefkit.errors import EngineError, PrefkitError

POLICY = Model(id="org/policy")
absent = pytest.mark.skipif(is_installed(), reason="vllm is installed here")


def place(engine: str):
    return open_engines({"policy": POLICY}, Placement({"policy": engine}))


@absent
@pytest.mark.parametrize("engine", ["vllm", "vllm?tensor_parallel_size=2"])
def test_without_the_package_the_error_says_how_to_install_it(engine):
    with pytest.raises(EngineError, match="vllm is not installed") as caught:
        place(engine)
    assert "pip install 'prefkit[vllm]'" in caught.value.hint


@absent
def test_auto_is_transformers_where_there_is_no_vllm():
    assert place("auto").versions()["org/policy"].startswith("transformers 5")
    critic = Model(id="prefkit/toy-critic")
    assert open_engines({"c": critic}, Placement({"c": "auto"})).versions() == {critic.id: "toy-critic"}


def test_a_soup_is_no_work_for_vllm_and_auto_knows_it():
    soup = Model(id="org/policy", soup=Soup(id="org/other"))
    with pytest.raises(EngineError, match="is a soup, which engine 'vllm' cannot make"):
        open_engines({"policy": soup}, Placement({"policy": "vllm"}))
    engines = open_engines({"policy": soup}, Placement({"policy": "auto"}))
    assert engines.versions()[soup.served_as].startswith("transformers")


def test_the_engine_is_in_the_catalogue_and_its_library_is_not_imported():
    assert "vllm" in ENGINES.names()
    code = "import sys, prefkit.engines.placement as p; sys.exit('vllm' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_options_are_read_as_what_they_are():
    options = read_options(
        "tensor_parallel_size=2&data_parallel=4&gpu_memory_utilization=0.5&kv_cache_memory_bytes=2MiB&enforce_eager=true"
    )
    assert (options.devices, options.data_parallel, options.kv_cache_memory_bytes) == (2, 4, 2 << 20)
    assert options.engine_arguments() == {
        "tensor_parallel_size": 2,
        "gpu_memory_utilization": 0.5,
        "kv_cache_memory_bytes": 2 << 20,
        "enforce_eager": True,
    }


def test_what_is_not_said_is_not_passed_on():
    assert read_options("") == VllmOptions()
    assert VllmOptions().engine_arguments() == {}
    assert read_options("dtype=bfloat16&data_parallel=2").engine_arguments() == {}


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("tensor_paralel_size=2", "no option 'tensor_paralel_size'", "did you mean 'tensor_parallel_size'?"),
        ("quantization=fp8", "no option 'quantization'", "one of: data_parallel, tensor_parallel_size"),
        ("data_parallel=0", "'0' is no value of option 'data_parallel'", "for instance"),
        ("data_parallel=two", "'two' is no value of option 'data_parallel'", "for instance"),
        ("gpu_memory_utilization=1.5", "'1.5' is no value", "for instance"),
        ("kv_cache_memory_bytes=much", "'much' is no value", "for instance"),
        ("data_parallel", "is not name=value", "for instance"),
        ("data_parallel=1&data_parallel=2", "'data_parallel' is given twice", "for instance"),
    ],
)
def test_a_wrong_option_is_an_error_that_helps(text, says, hint):
    with pytest.raises(EngineError, match=says) as caught:
        read_options(text)
    assert hint in caught.value.hint
    assert caught.value.where == "--engine"


def test_other_engines_do_not_take_its_options():
    with pytest.raises(EngineError, match="engine 'transformers' has no option 'tensor_parallel_size=2'"):
        place("transformers?tensor_parallel_size=2")
    with pytest.raises(EngineError, match="engine 'sentence-transformers' takes no options"):
        place("sentence-transformers?tensor_parallel_size=2")
    with pytest.raises(PrefkitError, match="no engine is called 'vlm'"):
        place("vlm?tensor_parallel_size=2")


def test_each_process_has_devices_of_its_own():
    options = VllmOptions(data_parallel=2, tensor_parallel_size=2)
    assert devices_for(options, ["0", "1", "2", "3", "4"]) == ["0,1", "2,3"]
    assert devices_for(options, ["3", "1", "GPU-ab", "7"]) == ["3,1", "GPU-ab,7"]
    with pytest.raises(EngineError, match=r"data_parallel=2 times 2 devices is 4, and there are 3"):
        devices_for(options, ["0", "1", "2"])


def test_work_is_dealt_by_text_and_equal_prompts_stay_together():
    asks = [Request((Message("user", f"q{at % 4}"),), 10, seed=at) for at in range(12)]
    shares = deal(asks, 2)
    assert sorted(shares[0] + shares[1]) == list(range(12))
    assert [len(share) for share in shares] == [6, 6]
    assert not {asks[at].messages for at in shares[0]} & {asks[at].messages for at in shares[1]}
    talks = [Conversation((Message("user", "x" * size),), ()) for size in (900, 300, 300, 300)]
    assert sorted(map(sorted, deal(talks, 2))) == [[0], [1, 2, 3]]
    assert deal(talks[:1], 3).count([]) == 2

"""The shape of the house: caps, layers of imports, and what starts fast."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import prefkit
from prefkit.rules import BUILTIN as RULES
from prefkit.stages import BUILTIN as STAGES
from prefkit.stages import HOMES

ROOT = Path(prefkit.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
TRAINING_SCRIPTS = ("prefkit/toy/make.py", "prefkit/toy/reward.py")
HEAVY = {"torch", "transformers", "datasets", "sentence_transformers", "vllm", "pandas", "scipy", "sklearn"}


def test_no_file_is_over_350_lines():
    assert len(FILES) > 40
    long = {
        str(path.relative_to(ROOT)): n for path in FILES if (n := len(path.read_text().splitlines())) > 350
    }
    assert long == {}


def test_no_function_is_over_60_lines():
    long, seen = {}, 0
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                seen += 1
                if node.end_lineno - node.lineno + 1 > 60:
                    long[f"{path.relative_to(ROOT)}:{node.name}"] = node.end_lineno - node.lineno + 1
    assert seen > 300
    assert long == {}


def test_every_module_says_what_it_is():
    assert [str(path) for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_every_stage_and_rule_is_final_and_frozen():
    assert len(STAGES) >= 13
    assert len(RULES) >= 4
    for kind in (*STAGES, *RULES):
        assert kind.__final__, f"{kind.__name__} must be @final"
        assert kind.model_config["frozen"], kind.__name__
        assert not inspect.isabstract(kind)
    names = [stage.name for stage in STAGES]
    assert len(names) == len(set(names))


def test_nothing_unpickles_evaluates_or_trusts_remote_code():
    banned = ("pickle.load", "eval(", "exec(", "trust_remote_code=True", "torch.load(", "yaml.load(")
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in FILES
        for line in path.read_text().splitlines()
        for word in banned
        if word in line.replace(".eval(", "").replace("model.eval", "") and "weights_only=True" not in line
    ]
    assert found == []


def imported_by(code: str) -> set[str]:
    return {name.partition(".")[0] for name in modules_of(code)}


def modules_of(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_a_recipe_imports_the_stages_it_names_and_no_other():
    text = "name: r\nseed: 1\ndata: [{file: x.jsonl, columns: {prompt: p}}]\nbuild: [{dedup: {}}]\n"
    code = f"from prefkit.recipe import Recipe\nRecipe.parse({text!r})"
    assert len(HOMES) == len(STAGES) > 40
    imported = {home.partition(":")[0] for home in HOMES.values()} & modules_of(code)
    assert imported == {"prefkit.stages.dedup"}


def test_importing_the_core_imports_nothing_heavy():
    modules = [
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in FILES
        if "__main__" not in path.name and not str(path).endswith(TRAINING_SCRIPTS)
    ]
    assert len(modules) > 40
    code = "\n".join(f"import {name}" for name in modules)
    assert imported_by(code) & HEAVY == set()

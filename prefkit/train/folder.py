"""The output folder of a run: what is written into it, each file whole or not at all, and whose run stands there."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from prefkit.engines.weights import Loaded
from prefkit.errors import TrainError
from prefkit.logs import WARNING, note
from prefkit.train import checkpoint
from prefkit.train.adapters import merged, save_adapter
from prefkit.train.forward import Task
from prefkit.train.heads import merged_heads
from prefkit.train.report import Report
from prefkit.train.weight_files import fault_of

if TYPE_CHECKING:
    from peft import PeftModel

__all__ = ["add_line", "finished", "lines", "save_model", "write", "write_lines"]


def save_model(loaded: Loaded, task: Task, adapters: "PeftModel | None", folder: Path) -> None:
    """Write the network and its tokenizer; with adapters, these too, beside it.

    Raises TrainError where there is no room.
    """
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    with checkpoint.writing(folder), merged_heads(task.objective, loaded.network, task.heads):
        if adapters is None:
            loaded.network.save_pretrained(fresh)
        else:
            loaded.network.save_pretrained(fresh, state_dict=merged(loaded.network))
            save_adapter(adapters, folder.with_name("adapter"))
        loaded.tokenizer.save_pretrained(fresh)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def finished(out: Path, key: str) -> Report | None:
    """Return the report of the same run, if it stands in the folder whole. Raises TrainError if another one does."""
    path = out / "report.json"
    if not path.is_file():
        return None
    try:
        report = Report.model_validate_json(path.read_bytes())
    except ValidationError:
        return None  # torn or edited: the run is finished anew
    if report.key != key:
        what = "the output folder holds another run: other settings, pairs or model"
        raise TrainError(what, where=str(out), hint="choose another output folder, or delete this one")
    return report if _is_whole(out) else None


def _is_whole(out: Path) -> bool:
    """Say whether the weights can be read, if they are there: who needs the report alone may have deleted them."""
    for path in (*out.glob("model/*.safetensors"), *out.glob("adapter/*.safetensors")):
        if fault := fault_of(path):
            note("weights damaged", {"file": str(path), "fault": fault}, WARNING)
            return False
    return True


def lines(path: Path) -> list[dict[str, Any]]:
    """Return what stands in a file of JSON lines, up to one that was cut short; nothing where there is no file."""
    found: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            break  # the run was killed while it wrote this line
    return found


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write JSON lines."""
    write(path, "".join(json.dumps(row) + "\n" for row in rows))


def add_line(path: Path, row: Mapping[str, Any]) -> None:
    """Add a JSON line to a file. Raises TrainError where there is no room."""
    with checkpoint.writing(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def write(path: Path, text: str) -> None:
    """Write a file, beside itself and then in place. Raises TrainError where there is no room."""
    fresh = path.with_name(path.name + ".new")
    with checkpoint.writing(path):
        fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)

"""Files of weights: whether they are whole, without loading them."""

from pathlib import Path

from prefkit.objects import short

__all__ = ["fault_of"]


def fault_of(path: Path) -> str:
    """Return what is wrong with a safetensors file, "" if nothing is: its header says how long it must be.

    Raises OSError where it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    size = path.stat().st_size
    try:
        with safe_open(str(path), framework="np"):
            return ""
    except SafetensorError as error:
        return f"is damaged or cut short, at {size:,} bytes: {short(error)}"

"""Counting: the FLOPs and bytes that operations ask for, what this machine can do, and where its time went.

FLOPs are those of matrix products and attention, as torch's own formulas count them; bytes are what every operation
reads and writes, as if nothing stayed in a cache. Divided by the rates measured here they say how far a run is from
what the machine allows.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001 - torch's own name
CPU_ATTENTION_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward  # noqa: SLF001
FORMULAS = {str(operation): formula for operation, formula in flop_registry.items()}
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "attention": ("attention", "flash", "flex", "varlen"),
    "matrix products": ("mm", "matmul", "linear", "gemm", "cutlass", "nvjet", "bmm"),
    "optimizer": ("adam", "foreach", "norm_except", "multi_tensor"),
    "gather and scatter": ("index", "gather", "scatter", "embedding", "cat"),
    "copies, casts, fills": ("copy", "fill", "zero", "_to_", "clone", "memcpy", "memset"),
    "exponentials and sums of logits": ("exp", "logsumexp", "softmax", "amax"),
}


class Rates(NamedTuple):
    """What this machine does on its own."""

    flops: float
    """FLOPs per second of a matrix product of 1024 x 1024 by 1024 x 1024."""
    bytes: float
    """Bytes read and written per second by a copy of 256 MiB."""


class Counted(TorchDispatchMode):
    """Counts while it is entered. Costs some microseconds an operation."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.bytes = 0
        self.operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not func.is_view:
            self.operations += 1
            self.bytes += sum(
                leaf.numel() * leaf.element_size()
                for leaf in tree_leaves((args, kwargs, out))
                if isinstance(leaf, torch.Tensor)
            )
        self.flops += _flops(func.overloadpacket, args, kwargs, out)
        return out


def _flops(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    """Return the FLOPs of a product; 0 for what is none. A causal kernel skips half of an attention."""
    if operation is CPU_ATTENTION:
        query, key, *_, causal = args if len(args) == 5 else (*args[:3], 0.0, kwargs.get("is_causal", False))
        return 4 * query.numel() * key.shape[-2] // (2 if causal else 1)
    if operation is CPU_ATTENTION_BACKWARD:
        _, query, key, *_, causal = args
        return 10 * query.numel() * key.shape[-2] // (2 if causal else 1)
    # What works in place has the formula of its namesake.
    formula = FORMULAS.get(str(operation).rstrip("_"))
    return 0 if formula is None else formula(*args, **kwargs, out_val=out)


def rates(device: str, dtype: torch.dtype) -> Rates:
    """Measure the machine for about a second."""
    left, right = (torch.randn(1024, 1024, device=device).to(dtype) for _ in range(2))
    block = torch.empty(64 << 20, dtype=torch.float32, device=device)
    other = torch.ones_like(block)
    product = _seconds(lambda: left @ right.T, device)
    copy = _seconds(lambda: block.copy_(other), device)
    return Rates(2 * 1024**3 / product, 2 * 4 * block.numel() / copy)


def clock(device: str) -> float:
    """Return CPU seconds on a CPU, wall seconds on a GPU once it is idle."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _seconds(work: Callable[[], object], device: str) -> float:
    work()
    began, rounds = clock(device), 0
    while rounds < 3 or clock(device) - began < 0.5:
        work()
        rounds += 1
    return (clock(device) - began) / rounds


def families(profile: Any, device: str) -> dict[str, float]:
    """Return the share of the profiled time that each family of operations took itself, largest first."""
    spent: Counter[str] = Counter()
    for event in profile.key_averages():
        own = event.self_cpu_time_total if device == "cpu" else event.self_device_time_total
        spent[_family(event.key)] += own
    total = sum(spent.values()) or 1
    return {name: own / total for name, own in spent.most_common()}


def _family(name: str) -> str:
    short = name.lower()
    for family, parts in FAMILIES.items():
        if any(part in short for part in parts):
            return family
    return "elementwise and the rest"

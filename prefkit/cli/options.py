"""The flags, each said once. They say where and how fast; only `--set` touches what a result is.

The list is frozen: a new knob is a field of a stage, not a flag.
"""

from typing import Annotated

import typer

__all__ = [
    "Budgets",
    "CheckpointEvery",
    "Compile",
    "Concurrency",
    "Device",
    "Dtype",
    "Engine",
    "Executor",
    "Jobs",
    "Json",
    "Keep",
    "Log",
    "LogTo",
    "Memory",
    "MicroTokens",
    "Price",
    "PriceFile",
    "Profile",
    "RayAddress",
    "RayWorkers",
    "RecipePath",
    "Recompute",
    "Refresh",
    "Set",
    "StoreFolder",
    "Timeout",
    "Until",
]

RecipePath = Annotated[
    str, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.", show_default=False)
]
StoreFolder = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="FOLDER",
        envvar="PREFKIT_STORE",
        help="Where results are kept: a folder, or s3://bucket/folder.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change the recipe: --set build.pair.by=score."),
]
Engine = Annotated[
    list[str] | None,
    typer.Option(
        "--engine", "-e", metavar="NAME=ENGINE", help="Where a model runs: an address, or an engine's name."
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, or auto.")]
Concurrency = Annotated[
    int,
    typer.Option(
        "--concurrency", min=1, metavar="N", help="Requests under way at a server, at most; it adapts below."
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout", min=1.0, metavar="SECONDS", help="How long to wait for one answer of a server."
    ),
]
Jobs = Annotated[
    int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Worker processes for steps without models.")
]
Memory = Annotated[
    str,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="What a step that sees all rows at once may hold, as 16GB; else 4/5 of the machine's memory.",
        show_default=False,
    ),
]
Executor = Annotated[
    str,
    typer.Option(
        "--executor", metavar="NAME", help="What makes the rows: local, this machine, or ray, a cluster."
    ),
]
RayAddress = Annotated[
    str,
    typer.Option(
        "--ray-address",
        metavar="ADDRESS",
        help="Of a Ray cluster, as 10.0.0.1:6379; else the one that Ray finds, else one started here.",
        show_default=False,
    ),
]
RayWorkers = Annotated[
    str,
    typer.Option(
        "--ray-workers",
        metavar="[MIN:]MAX",
        help="Workers of a step at once on Ray, as 1:8; else as many as the cluster has room for.",
        show_default=False,
    ),
]
Until = Annotated[
    str, typer.Option("--until", metavar="STEP", help="Stop after this step.", show_default=False)
]
Refresh = Annotated[
    list[str] | None,
    typer.Option("--refresh", metavar="STEP", help="Make this step anew, asking models again."),
]
Keep = Annotated[
    str,
    typer.Option(
        "--keep",
        metavar="ROWS",
        help="last: remove the rows of a step once the next one stands. all: make removed rows again.",
        show_default=False,
    ),
]
Price = Annotated[
    list[str] | None,
    typer.Option(
        "--price",
        metavar="NAME=IN/OUT",
        help="What a model costs, in dollars per million tokens read and written.",
    ),
]
PriceFile = Annotated[
    str,
    typer.Option(
        "--prices",
        metavar="FILE",
        envvar="PREFKIT_PRICES",
        help="Prices by model: a line `judge: 0.15/0.60` each.",
        show_default=False,
    ),
]
Budgets = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="[NAME=]AMOUNT",
        help="Stop once this is spent, on all models or on one: 5usd, 2M tokens.",
    ),
]
Log = Annotated[
    str,
    typer.Option(
        "--log",
        metavar="FILE",
        help="Append what happens to a file, as lines of JSON; - is stderr, with nothing else there.",
        show_default=False,
    ),
]
Profile = Annotated[bool, typer.Option("--profile", help="Say at the end where the time went.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

Dtype = Annotated[
    str,
    typer.Option("--dtype", metavar="DTYPE", help="float32, bfloat16, or auto: bfloat16 on a GPU."),
]
MicroTokens = Annotated[
    int | None,
    typer.Option(
        "--micro-tokens", min=1, metavar="N", help="Tokens in memory at once.", show_default="by device"
    ),
]
Recompute = Annotated[
    bool, typer.Option("--recompute", help="Activation checkpointing: less memory, a third more work.")
]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the network's layers with torch.compile.")]
LogTo = Annotated[
    str | None,
    typer.Option(
        "--log-to",
        metavar="TRACKER",
        help="Metrics also go to tensorboard, wandb or trackio.",
        show_default=False,
    ),
]
CheckpointEvery = Annotated[
    int, typer.Option("--checkpoint-every", min=1, metavar="STEPS", help="Steps between checkpoints.")
]

"""Build preference datasets people can trust, and prove their worth by training on them.

    import prefkit

    recipe = prefkit.Recipe.load("recipes/quickstart.yaml")
    made = prefkit.build(recipe, prefkit.Store("runs"))
    prefkit.open("quickstart/pair").frame.collect()

Public names are resolved on first use, so that `import prefkit` takes next to no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefkit.opened import open_ref as open  # noqa: A004 - as users write it: prefkit.open
    from prefkit.recipe import Recipe
    from prefkit.run import Build, Settings, build
    from prefkit.stage import Context, Stage
    from prefkit.store import Store

__all__ = ["Build", "Context", "Recipe", "Settings", "Stage", "Store", "__version__", "build", "open"]

__version__ = "0.1.0"

_HOME = {
    "Build": ("prefkit.run", "Build"),
    "Context": ("prefkit.stage", "Context"),
    "Recipe": ("prefkit.recipe", "Recipe"),
    "Settings": ("prefkit.run", "Settings"),
    "Stage": ("prefkit.stage", "Stage"),
    "Store": ("prefkit.store", "Store"),
    "build": ("prefkit.run", "build"),
    "open": ("prefkit.opened", "open_ref"),
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'prefkit' has no attribute '{name}'")
    module, attribute = _HOME[name]
    return getattr(import_module(module), attribute)

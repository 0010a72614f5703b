"""Pages: everything prefkit knows of a build in one HTML file, to open from disk, to send, to print.

A page asks nothing of a network and runs nothing but its own script, since what it shows comes from strangers.
"""

from prefkit.page.build import write_report

__all__ = ["write_report"]

"""Why: the whole life of one row, from prompt to label, with every model call made for it.

    from prefkit.why import biography
    life = biography(Store("runs"), "quickstart", "1a80cf7f")
    [(chapter.step, passage.fate) for chapter in life.chapters for passage in chapter.passages]

A store holds what rows were, and what models said; not which answer belongs to which row. Since stages are pure, a step
can be run again on the few rows concerned, with an engine that only remembers: what it asks is what was asked then. If
what comes of it is not what is stored, that is said, and nothing is guessed.
"""

from prefkit.why.life import Biography, Call, Chapter, Passage, Verdict, Wrote, as_data
from prefkit.why.telling import biography

__all__ = ["Biography", "Call", "Chapter", "Passage", "Verdict", "Wrote", "as_data", "biography"]

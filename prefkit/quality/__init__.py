"""Quality: flaws that can be seen from a text alone, as functions of whole columns.

Nothing here asks a model, so all of it is a first sieve: it finds what has a form (an address, a marker, a stock phrase)
and not what needs reading. Each file says what it looks for, what it was measured on and what it misses.
"""

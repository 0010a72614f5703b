"""Print prompts of the toy world, one conversation a line: `python -m prefkit.toy [COUNT [SEED]]`."""

import sys

from prefkit.toy.pools import jsonl, prompts

if __name__ == "__main__":
    count, seed, *_ = [*map(int, sys.argv[1:]), *(400, 0)[len(sys.argv) - 1 :]]
    sys.stdout.write(jsonl(prompts(count, seed)))

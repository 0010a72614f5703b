"""`python -m prefkit`, which `torchrun -m prefkit` needs."""

from prefkit.cli import main

if __name__ == "__main__":
    main()

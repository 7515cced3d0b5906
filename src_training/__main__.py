"""``python -m src_training`` is ``msankd``."""

from src_training.cli import main

if __name__ == "__main__":
    main()

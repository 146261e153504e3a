"""`python -m finetune_pricer.cli`."""

from . import main

if __name__ == "__main__":
    main()

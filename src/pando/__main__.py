"""`python -m pando` is the `pando` command."""

from pando.cli.main import main

if __name__ == "__main__":
    main()

"""How many random examples: half of hypothesis's usual number for `make test`, all of it for `make full`."""

from hypothesis import settings


def pytest_configure(config):
    if "not full" in config.option.markexpr:
        settings.register_profile("shorter", parent=settings(), max_examples=50)
        settings.load_profile("shorter")

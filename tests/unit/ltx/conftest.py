import pytest
from ltx_variants import COMBINATIONS, load_variant, variant_name


@pytest.fixture(params=COMBINATIONS, ids=variant_name, scope="session")
def ltx(request):
    """The package with each combination of its optional libraries."""
    return load_variant(*request.param)

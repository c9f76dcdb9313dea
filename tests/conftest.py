"""The libraries under test. ADVANTAGE_ZOO_TEST_BACKENDS=numpy,torch,jax,strict makes a missing one a failure."""

import os

import pytest
from hypothesis import Phase, settings

from advantage_zoo.testing import backend, installed

REQUIRED = tuple(filter(None, os.environ.get("ADVANTAGE_ZOO_TEST_BACKENDS", "").split(",")))
ALL = ("numpy", "readonly", "torch", "jax", "strict")

# Of thousands of mutants nobody reads the smallest counterexample.
settings.register_profile("mutation", phases=(Phase.explicit, Phase.generate))


def library(name):
    """The backend, or a skip; never a skip for one that must be there."""
    if name not in installed() and name not in REQUIRED:
        pytest.skip(f"{name} is not installed (ADVANTAGE_ZOO_TEST_BACKENDS does not ask for it)")
    if REQUIRED and name not in REQUIRED and not (name == "readonly" and "numpy" in REQUIRED):
        pytest.skip(f"ADVANTAGE_ZOO_TEST_BACKENDS leaves {name} out")
    return backend(name)


@pytest.fixture(params=ALL)
def xp(request):
    """Each library in turn, float64 switched on."""
    found = library(request.param)
    with found.precise():
        yield found


@pytest.fixture
def torch():
    library("torch")
    return pytest.importorskip("torch")


@pytest.fixture
def jax():
    library("jax")
    return pytest.importorskip("jax")


@pytest.fixture(scope="module")
def one_thread():
    """PyTorch on one thread: for tiny models two are slower, and less repeatable."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

"""Checks and tests, each in an environment that nox makes: `nox` runs all, `nox -s core` one, `nox -l` lists them.

torch is pinned and comes first everywhere: a range that admits newer releases would replace it.
"""

import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = True

TORCH = "torch==2.13.0"
PLUGINS = Path("tests/plugins")


def install_torch(session: nox.Session) -> None:
    session.install(TORCH)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff (check and format) and pyright: strict on advantage_zoo/, basic on adapters/."""
    install_torch(session)
    session.install("-e", ".[cli,jax,transformers]", "--group", "lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("pyright")


@nox.session
def core(session: nox.Session) -> None:
    """The library on NumPy, PyTorch, JAX and array-api-strict, the command line, the transformers adapter."""
    install_torch(session)
    session.install("-e", ".[cli,jax,transformers]", "--group", "test")
    session.env["ADVANTAGE_ZOO_TEST_BACKENDS"] = "numpy,torch,jax,strict"
    session.run("pytest", "--ignore=tests/wheel", "-n", "auto", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """The built sdist and wheel in an environment without torch and JAX, and plugins that come as wheels."""
    session.install("build")
    dist = Path(session.create_tmp()) / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--quiet", "--outdir", str(dist), ".")  # the wheel is made from the sdist
    for plugin in sorted(PLUGINS.iterdir()):
        session.run("python", "-m", "build", "--quiet", "--wheel", "--outdir", str(dist / "plugins"), str(plugin))
    (built,) = dist.glob("*.whl")
    session.install(f"{built}[cli]", "pytest", *map(str, sorted((dist / "plugins").glob("*.whl"))))
    root = Path.cwd()
    with session.chdir(session.create_tmp()):  # so that nothing is imported from the checkout
        # without tests/conftest.py, which is about array libraries
        options = ("--noconftest", "-o", "pythonpath=", "-c", str(root / "pyproject.toml"), "--rootdir", str(root))
        session.run("pytest", *options, str(root / "tests" / "wheel"))


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation builds, its generated parts are fresh."""
    session.install("-e", ".[cli]", "--group", "docs")
    session.run("python", "docs/generate.py", "--check")
    session.run("zensical", "build", "--clean")

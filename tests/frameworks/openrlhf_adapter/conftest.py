"""OpenRLHF's own command line and its experience maker, in a folder with a model."""

from types import SimpleNamespace

import pytest

pytest.importorskip("openrlhf")

from frameworks.openrlhf_adapter.made import Rollout
from frameworks.openrlhf_run.made import make_files, parse
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
from openrlhf.trainer.ppo_utils.kl_controller import FixedKLController


@pytest.fixture(autouse=True, scope="module")
def _files(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("files")
        make_files(folder)
        patch.chdir(folder)
        yield


@pytest.fixture
def run(monkeypatch):
    return lambda *flags: parse(monkeypatch, *flags)


@pytest.fixture
def refusal(run, capsys):
    """The last line of what it says when it refuses."""

    def refused(*flags):
        with pytest.raises(SystemExit) as stopped:
            run(*flags)
        assert stopped.value.code == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    return refused


@pytest.fixture
def rollout():
    return Rollout()


@pytest.fixture
def maker(run):
    """OpenRLHF's experience maker for flags of its command line."""

    def made(*flags):
        args = run(*flags)
        controller = FixedKLController(args.algo.kl.init_coef)
        return RemoteExperienceMaker(None, None, None, None, controller, SimpleNamespace(args=args), None)

    return made

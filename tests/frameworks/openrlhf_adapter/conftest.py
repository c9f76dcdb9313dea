"""OpenRLHF's own experience maker for flags of its command line, in a folder with a model."""

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
def rollout():
    return Rollout()


@pytest.fixture
def maker(monkeypatch):
    """OpenRLHF's experience maker for flags of its command line."""

    def made(*flags):
        args = parse(monkeypatch, *flags)
        controller = FixedKLController(args.algo.kl.init_coef)
        return RemoteExperienceMaker(None, None, None, None, controller, SimpleNamespace(args=args), None)

    return made

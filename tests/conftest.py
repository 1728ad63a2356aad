"""What every test module leaves behind: nothing, unless one of its tests failed; where tests of a GPU run; forks."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture(scope="module", autouse=True)
def _folders_of_a_module_go_with_it(tmp_path_factory, request):
    """Checkpoints of a module's runs would otherwise stay until the end, 13 GB of them for the whole suite."""
    base, failed = tmp_path_factory.getbasetemp(), request.session.testsfailed
    before = set(base.iterdir())
    yield
    if request.session.testsfailed == failed:
        for left in set(base.iterdir()) - before:
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def pytest_sessionstart():
    """Start autograd before any test plans on shapes of a GPU.

    Its first backward starts a thread for each device, also for the one that torch pretends to have from then on; and
    children that tests fork later could not train: "Unable to handle autograd's threading in combination with fork".
    """
    import torch

    torch.ones(1, requires_grad=True).sum().backward()


def pytest_collection_modifyitems(items):
    """Leave tests marked gpu out where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))

"""The whole test that a backend of one's own needs to begin with."""

from tts_train.testing import check_backend


def test_conforms(tmp_path):
    check_backend("toy", folder=tmp_path)

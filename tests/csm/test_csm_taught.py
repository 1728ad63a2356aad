"""What CSM draws is what it is taught; a depth network without a gradient does not pass."""

from __future__ import annotations

import pytest
from tts_train_csm.model import CSM
from tts_train_csm.stage import CsmData, CsmModule

from tests.csm.small import write_rows
from tts_train.checking import check_training
from tts_train.families.token_lm import TinyOptions

SMALL = TinyOptions(hidden=32, layers=1, heads=2, kv_heads=1, mlp=48)


class DetachedDepth(CsmModule):
    """Hands the depth network's loss on without its gradient."""

    def _forward(self, batch):
        output = super()._forward(batch)
        object.__setattr__(output.depth, "loss_sum", output.depth.loss_sum.detach())
        return output


def test_a_depth_network_without_a_gradient_is_told(tmp_path, caplog):
    """What is taught as it is drawn, test_csm_promises measures."""
    caplog.set_level("INFO")
    data = CsmData(str(write_rows(tmp_path / "rows.parquet")), max_tokens=64, val_share=0)
    with pytest.raises(AssertionError, match=r"no gradient reaches .*depth_decoder"):
        check_training(CSM.name, DetachedDepth("tiny", tiny=SMALL), data, runs_in=tmp_path)
    assert "are padding" not in caplog.text  # ids are no positions: a frame of 32 is one

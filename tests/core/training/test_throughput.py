"""Throughput figures agree with a run whose times are known."""

from __future__ import annotations

import lightning as L
import pytest

from tests.core.training.small import Tiny, fit
from tts_train.report.history import History, series
from tts_train.training.watch.history import MetricsHistory
from tts_train.training.watch.throughput import Throughput


def test_speeds_follow_the_time_of_a_step_and_the_wait_for_data(tmp_path):
    # A step works 40 ms and waits for two rows of 20 ms each.
    module = Tiny(step_s=0.04)
    throughput = Throughput(clock=module.clock)
    fit(module, [throughput, MetricsHistory(tmp_path)], delay_s=0.02, max_steps=8)
    found = throughput.latest
    assert found["throughput/steps_per_s"] == pytest.approx(1 / 0.08)
    assert found["throughput/tokens_per_s"] == pytest.approx(8 / 0.08)
    assert found["throughput/audio_s_per_s"] == pytest.approx(1 / 0.08)
    assert found["throughput/data_wait"] == pytest.approx(0.5)
    assert 0.05 < found["memory/peak_gib"] < 64
    logged = series(History(tmp_path).entries())
    assert [entry.step for entry in logged["throughput/steps_per_s"]] == [2, 4, 6, 8]


def test_validation_and_checkpoints_are_left_out(tmp_path):
    # Validation after every second step takes 0.4 s and every save 0.2 s; only the steps' 10 ms count.
    module, writes = Tiny(step_s=0.01, val_s=0.2), []
    throughput = Throughput(clock=module.clock)

    class Writer(L.Callback):
        def on_train_batch_end(self, trainer, *args, **kwargs):
            path = tmp_path / f"{trainer.global_step}.ckpt"
            trainer.save_checkpoint(path, weights_only=False)
            writes.append(path)
            module.clock.spend(0.2)

    options = {"val": True, "val_check_interval": 2, "max_steps": 6}
    fit(module, [throughput, Writer()], **options)
    assert len(writes) == 6
    assert throughput.latest["throughput/steps_per_s"] == pytest.approx(1 / 0.01)
    assert throughput.latest["throughput/data_wait"] == 0


def test_without_an_answer_only_steps_are_counted():
    class Plain(Tiny):
        def work_in(self, batch):
            return None

    throughput = Throughput()
    fit(Plain(), [throughput])
    assert set(throughput.latest) == {"throughput/steps_per_s", "throughput/data_wait", "memory/peak_gib"}

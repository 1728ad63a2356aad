"""Each hook is asked, and its answers combine as docs/hooks.md says."""

from __future__ import annotations

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel
from lightning.pytorch.strategies import SingleDeviceStrategy

from tts_train import Backend, Format, Stage, hookimpl
from tts_train.contract.metric import Figure, HeardText, Metric, Recogniser
from tts_train.plugins import PluginError, Plugins

STAGE = Stage(
    name="boring",
    summary="A stage.",
    model=BoringModel,
    data="lightning.pytorch.demos.boring_classes:BoringDataModule",
    formats={"plain": Format(summary="declared", job="json:JSONDecoder")},
)


class OtherModel(BoringModel):
    """What a plugin puts in the place of another."""


class Loveliness(Metric):
    """A metric that a plugin brings."""

    name = "loveliness"
    figures = (Figure(name="loveliness", unit="", better="higher", summary="mine"),)

    def measure(self, take):
        return {"loveliness": 1.0}


class Echo(Recogniser):
    """A recogniser that a plugin brings."""

    name = "echo"

    def __init__(self, model):
        self.model = model

    def settings(self):
        return {"model": self.model}

    def recognise(self, sound, language):
        return HeardText(text=f"{sound.seconds:g} s", confidence=1.0, language=language)


class Extension:
    """Answers every hook."""

    @hookimpl
    def tts_train_backend(self):
        return Backend(name="boring", summary="", stages=(STAGE,))

    @hookimpl
    def tts_train_data(self, stage):
        return BoringDataModule if stage.name == "other" else None

    @hookimpl
    def tts_train_model(self, stage):
        return OtherModel

    @hookimpl
    def tts_train_arguments(self, parser, stage):
        parser.append(f"--plugins.{stage.name}")

    @hookimpl
    def tts_train_strategy(self, stage, name):
        return SingleDeviceStrategy("cpu") if name == "mine" else None

    @hookimpl
    def tts_train_callbacks(self, stage, options):
        return [Callback()]

    @hookimpl
    def tts_train_export(self, stage):
        return {"fancy": Format(summary="mine", job="json:JSONDecoder")}

    @hookimpl
    def tts_train_metrics(self, stage, weights):
        return [Loveliness()]

    @hookimpl
    def tts_train_recognisers(self, model):
        return [Echo(model)]


@pytest.fixture
def plugins():
    loaded = Plugins(selected=())
    loaded.register(Extension(), name="extension")
    return loaded


def test_hook_backend(plugins):
    assert plugins.backend(expected="boring").stage(None) is STAGE
    with pytest.raises(PluginError, match="'boring'"):
        plugins.backend(expected="another")


def test_hook_data(plugins):
    assert plugins.data(STAGE) is BoringDataModule, "the core answers last with what the stage declared"


def test_hook_model(plugins):
    assert plugins.model(STAGE) is OtherModel, "a plugin answers before the core"


def test_hook_model_can_be_wrapped(plugins):
    class Wrapper:
        @hookimpl(wrapper=True)
        def tts_train_model(self, stage):
            inner = yield
            return type("Wrapped", (inner,), {})

    plugins.register(Wrapper(), name="wrapper")
    assert plugins.model(STAGE).__mro__[1] is OtherModel


def test_hook_arguments(plugins):
    parser: list[str] = []
    plugins.arguments(parser, STAGE)
    assert parser == ["--plugins.boring"]


def test_hook_strategy(plugins):
    assert isinstance(plugins.strategy(STAGE, "mine", {}), SingleDeviceStrategy)
    assert plugins.strategy(STAGE, "ddp", {}) is None, "names that nobody knows are left to Lightning"


def test_hook_callbacks(plugins):
    plugins.register(Extension(), name="second")
    assert len(plugins.callbacks(STAGE, {})) == 2


def test_hook_export(plugins):
    assert list(plugins.formats(STAGE)) == ["plain", "fancy"]
    plugins.register(Extension(), name="second")
    with pytest.raises(PluginError, match="'fancy'"):
        plugins.formats(STAGE)


def test_hook_metrics(plugins):
    names = [metric.name for metric in plugins.metrics(STAGE, {})]
    assert names[0] == "dnsmos", "the core's come first"
    assert names[-1] == "loveliness"
    plugins.register(Extension(), name="second")
    with pytest.raises(PluginError, match="'loveliness'"):
        plugins.metrics(STAGE, {})


def test_hook_recognisers(plugins):
    found = plugins.recognisers("mine")
    assert [each.name for each in found] == ["whisper", "sphinx", "echo"], "the core's come first"
    assert [each.model for each in found] == ["mine"] * 3, "each is made with the model that was named"
    plugins.register(Extension(), name="second")
    with pytest.raises(PluginError, match="'echo'"):
        plugins.recognisers(None)


def test_a_failing_plugin_is_named():
    class Broken:
        @hookimpl
        def tts_train_callbacks(self, stage):
            raise ZeroDivisionError("oh")

    loaded = Plugins(selected=())
    loaded.register(Extension(), name="innocent")
    loaded.register(Broken(), name="broken")
    with pytest.raises(PluginError, match="Plugin 'broken' failed in hook tts_train_callbacks: ZeroDivisionError: oh"):
        loaded.callbacks(STAGE, {})


def test_a_misspelt_hook_is_refused():
    class Misspelt:
        @hookimpl
        def tts_train_modle(self, stage):
            return None

    with pytest.raises(PluginError, match="'misspelt'"):
        Plugins(selected=()).register(Misspelt(), name="misspelt")

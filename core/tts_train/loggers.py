"""Loggers that Lightning does not bring; chosen with ``--trainer.logger``, as Lightning's own."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from lightning.fabric.utilities.logger import _convert_params, _flatten_dict
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from tts_train.errors import MissingExtraError


class TrackioLogger(Logger):
    """Logs to trackio: local, offline, looked at with ``trackio show``.

    Args:
        project: Project under which trackio keeps the run.
        name: Name of the run; trackio makes one up where none is given.
    """

    def __init__(self, project: str = "tts-train", name: str | None = None) -> None:
        super().__init__()
        self._project, self._name = project, name
        self._run: Any = None

    @property
    def name(self) -> str:
        """The project."""
        return self._project

    @property
    def version(self) -> str:
        """The run's name."""
        return self._name or ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log figures at a step."""
        self._begun().log(dict(metrics), step=step)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Keep settings as the run's configuration."""
        self._begun(_flatten_dict(_convert_params(params)))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the run."""
        if self._run is not None:
            self._run.finish()
            self._run = None

    def _begun(self, config: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - trackio is not typed
        if self._run is None:
            try:
                import trackio
            except ImportError:
                raise MissingExtraError("--trainer.logger tts_train.loggers.TrackioLogger", "trackio") from None
            self._run = trackio.init(
                project=self._project, name=self._name, config=dict(config or {}), resume="allow", embed=False
            )
        return self._run

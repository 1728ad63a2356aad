"""The training module: which base, what of it is trained and how; each argument is a flag below ``--model``."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from tts_train.contract.data import AUTO
from tts_train.contract.module import StageModule, Work
from tts_train.errors import ConfigError
from tts_train.families.token_lm.decoding.memory import listening_bytes
from tts_train.families.token_lm.network.adapters import LoraOptions, Method, apply_method, trainable_parameters
from tts_train.families.token_lm.network.build import build_network, metrics_of
from tts_train.families.token_lm.network.late import late_network, late_weights, reads_late, shape_network
from tts_train.families.token_lm.network.layers import can_fuse
from tts_train.families.token_lm.network.network import HeadOptions, NetworkOutput, TokenNetwork
from tts_train.families.token_lm.network.restore import PREFIX, initial_config, load_initial
from tts_train.families.token_lm.network.start import TinyOptions
from tts_train.nn.float8 import Float8Options, use_float8
from tts_train.nn.kernels.choice import Kernels, choose_fused
from tts_train.optim import OptimizerOptions, ScheduleOptions
from tts_train.parallel.means import summed

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

    from tts_train.checkpoints.stored import StoredTensor
    from tts_train.contract.data import StageData
    from tts_train.families.token_lm.data.batch import TokenBatch
    from tts_train.families.token_lm.metrics import TokenMetrics
    from tts_train.families.token_lm.model import TokenLM
    from tts_train.families.token_lm.probe import TokenProbe
    from tts_train.families.token_lm.speaking.listening import TrainingVoice


def refuse(method: str, share: float, *, checkpointing: bool, freeze_embedding: bool, float8: str) -> None:
    """Refuse options that make no sense together.

    Args:
        method: ``--model.method``.
        share: ``--model.checkpoint_share`` as a number.
        checkpointing: ``--model.gradient_checkpointing``.
        freeze_embedding: ``--model.freeze_embedding``.
        float8: ``--model.float8.recipe``.

    Raises:
        ConfigError: naming them and what is allowed.
    """
    if not 0 < share <= 1:
        raise ConfigError(
            "--model.checkpoint_share is auto or a share of the layers, above 0 and up to 1, with "
            f"--model.gradient_checkpointing true; {share} was given."
        )
    if share < 1 and not checkpointing:
        raise ConfigError(
            f"--model.checkpoint_share {share} recomputes layers, and --model.gradient_checkpointing is false. Give "
            "--model.gradient_checkpointing true, or leave --model.checkpoint_share out."
        )
    # Refused and not ignored: who asks for it counts on less memory than would be taken.
    if freeze_embedding and method != "full":
        raise ConfigError(
            "--model.freeze_embedding is for --model.method full. Adapters leave the embedding as it is, unless "
            "--model.lora.train_embedding says otherwise."
        )
    if float8 != "off" and method != "full":
        raise ConfigError(
            f"--model.float8.recipe {float8} is for --model.method full, which multiplies with every "
            "weight three times. For less memory under adapters there are --model.method qlora and lora-8bit."
        )


def refuse_longer(longest: int | None, allowed: int, init_from: str) -> None:
    """Refuse data with an utterance that the base has no positions for.

    Args:
        longest: Tokens of the longest utterance; None where it is not known.
        allowed: Positions that the base was made for.
        init_from: ``--model.init_from``.

    Raises:
        ConfigError: saying how many there may be.
    """
    # Positions beyond those that the base was made for give noise, and no error.
    if longest is not None and longest > allowed:
        raise ConfigError(
            f"The longest utterance has {longest} tokens, and {init_from} was made for {allowed} positions: "
            f"give --data.max_tokens {allowed} or less."
        )


logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TokenModule(StageModule):
    """Train a causal language model on prepared tokens; a backend's subclass sets :attr:`token_lm`.

    Args:
        init_from: Base to start from: a hub name, a local folder, an export of this tool, or ``tiny``.
        method: ``full`` trains every weight; ``lora`` adapters; ``qlora`` and ``lora-8bit`` adapters over a base of 4
            and 8 bits, for small cards.
        lora: The adapters, for every method but ``full``.
        optimizer: The optimiser.
        schedule: The learning rate over the run.
        head: How the output layer and its loss are computed.
        gradient_checkpointing: Recompute each layer in backward: a third more arithmetic for a fraction of the memory.
        checkpoint_share: With ``gradient_checkpointing``, the share of the layers, evenly spread, that is recomputed
            (above 0, up to 1); ``auto`` is as little as the plan finds room for on the card, all where there is no card
            or more than one process.
        freeze_embedding: With ``full``: leave embedding and output matrix as they are, so that half a billion
            of 3.3 billion weights need no gradient and no states. A finished model has rows for all sounds already.
        offload_activations: Keep what waits for backward in host memory: little but time is spent, on copies.
        float8: With ``full``: multiply in 8-bit floats where the card can, as wide layers do faster.
        kernels: ``fused`` computes normalisation, positions, activations, adapters and loss in one kernel each;
            ``eager`` in plain PyTorch; ``auto`` is fused on a CUDA GPU with Triton, else eager. A continued run may
            change it; the last digits then differ.
        dtype: Type that the base is loaded in; ``auto`` is the precision's half type (bfloat16, or float16 under 16-*)
            for adapters and for bf16-true and 16-true, else float32. Adapters are float32 unless it is bf16-true.
        tiny: Size of the network that ``init_from: tiny`` makes.
    """

    token_lm: ClassVar[TokenLM]
    """The model that is trained."""
    names_decided_by = ("model.method", "model.lora", "model.init_from")

    def __init__(
        self,
        init_from: str,
        method: Method = "full",
        lora: LoraOptions = LoraOptions(),
        optimizer: OptimizerOptions = OptimizerOptions(),
        schedule: ScheduleOptions = ScheduleOptions(),
        head: HeadOptions = HeadOptions(),
        gradient_checkpointing: bool = False,
        checkpoint_share: float | Literal["auto"] = 1.0,
        freeze_embedding: bool = False,
        offload_activations: bool = False,
        float8: Float8Options = Float8Options(),
        kernels: Kernels = "auto",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        tiny: TinyOptions = TinyOptions(),
    ) -> None:
        super().__init__()
        self.description_key = self.token_lm.description_key
        self.init_from = init_from
        self.method = method
        self.lora = lora
        self.optimizer_options = optimizer
        self.schedule_options = schedule
        self.head = head
        self.gradient_checkpointing = gradient_checkpointing
        self.recompute_auto = gradient_checkpointing and checkpoint_share == AUTO
        self.checkpoint_share = 1.0 if checkpoint_share == AUTO else float(checkpoint_share)
        self.freeze_embedding = freeze_embedding
        self.offload_activations = offload_activations
        self.float8 = float8
        self.kernels = kernels
        self.dtype_name = dtype
        self.tiny = tiny
        self.network: TokenNetwork | None = None
        self._validation: TokenMetrics | None = None
        refuse(
            method,
            self.checkpoint_share,
            checkpointing=gradient_checkpointing,
            freeze_embedding=freeze_embedding,
            float8=float8.recipe,
        )

    def setup(self, stage: str) -> None:
        """Refuse data that the base cannot take, before any weight is loaded."""
        built = self.network
        config = initial_config(self.token_lm, self.init_from, self.tiny) if built is None else built.config
        data = self.stage_data
        refuse_longer(None if data is None else data.max_length, config.max_position_embeddings, self.init_from)

    def build(self) -> None:
        """Build the network from :attr:`init_from`."""
        device = self._quantised_on()
        # Adapters are put on a base that is loaded, so only full training reads each process's rows alone.
        if self.device_mesh is not None and self.method == "full" and reads_late(self.init_from):
            network = late_network(self.token_lm, self.init_from, self.head, dtype=self._load_dtype())
        else:
            network = self._loaded(device)
        self._set_up(network)
        sizes = [sum(p.numel() for p in of) for of in (trainable_parameters(network).values(), network.parameters())]
        about = (self.token_lm.name, self.init_from, self.method, *sizes)
        logger.info("%s from %s, %s: %s of %s parameters are trained.", *about)
        self.network = network

    def stored_weights(self) -> Mapping[str, StoredTensor]:
        """Return where the weights of a base that is sharded are read from."""
        assert self.network is not None
        return late_weights(self.token_lm, self.init_from, self.network)

    def build_shapes(self) -> None:
        """Build the network on ``meta`` without reading a weight."""
        self.network = shape_network(
            self.token_lm,
            self.init_from,
            method=self.method,
            lora=self.lora,
            head=self.head,
            dtype=self._load_dtype(),
            tiny=self.tiny,
        )
        self._set_up(self.network)

    def recompute(self, share: float) -> None:
        """Recompute this share of the layers from now on, 0 to 1."""
        self.checkpoint_share = share
        if self.network is not None:
            self.network.enable_checkpointing(share)

    @property
    def vocabulary(self) -> int:
        """Rows of the output matrix."""
        return self.token_lm.layout.output_rows

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        """Return the mean loss of a token over all processes' batches together, or the sum of such means."""
        output = self._forward(batch)
        # Batches differ in their numbers of tokens, so a mean over processes' means would weigh them wrongly.
        shares = [summed(self.trainer, part.loss_sum, part.count) for part in output.parts]
        # batch_size is said, as Lightning would look through the batch to guess it.
        means = [weight * total / count for weight, (total, count) in zip(output.weights, shares, strict=True)]
        self.log("train/loss", torch.stack(means).sum(), batch_size=1)
        # Figures need a wait for the card, so they are made only for the steps that log.
        if self._logs_now():
            metrics = metrics_of(self.token_lm.layout, output.head.targets.device)
            for part in output.parts:
                metrics.update(part)
            figures = metrics.compute(codes=False)
            self.log_dict({f"train/{name}": figures[name] for name in figures if name != "loss"}, batch_size=1)
        # Strategies average the gradients over processes, so each adds its share of the global mean times their number.
        world = self.trainer.world_size
        parts = zip(output.parts, output.weights, shares, strict=True)
        return torch.stack([part.loss_sum * (weight * world / count) for part, weight, (_, count) in parts]).sum()

    def on_validation_epoch_start(self) -> None:
        """Begin new sums."""
        self._validation = metrics_of(self.token_lm.layout, self.device)

    def validation_step(self, batch: TokenBatch, batch_idx: int) -> None:
        """Add a batch to the sums."""
        assert self._validation is not None
        for part in self._forward(batch).parts:
            self._validation.update(part)

    def on_validation_epoch_end(self) -> None:
        """Log the figures over the whole set, each token counting the same whatever batch and process it was in."""
        assert self._validation is not None
        # Sums and not means: the last batch of a process may be a small one.
        totals = self.trainer.strategy.reduce(self._validation.totals(), reduce_op="sum")
        assert isinstance(totals, Tensor)
        self._validation.load_totals(totals)
        figures = {f"val/{name}": value for name, value in self._validation.compute().items()}
        self.log_dict(figures, batch_size=1, sync_dist=True)  # summed above; Lightning warns where it is not told
        self._validation = None

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser and its schedule over the run's optimiser steps."""
        return self.standard_optimizer(self.optimizer_options, self.schedule_options)

    def work_in(self, batch: TokenBatch) -> Work:
        """Return the real tokens and the seconds of speech in a batch."""
        return Work(tokens=sum(batch["lengths"]), audio_seconds=batch["audio_seconds"])

    def voice(self) -> TrainingVoice:
        """Return what speaks with the weights as they are."""
        from tts_train.families.token_lm.speaking.listening import TrainingVoice

        assert self.network is not None
        return TrainingVoice(self.token_lm, self, self.network)

    def voice_bytes(self, passages: int) -> int:
        """Return the memory in bytes that speaking ``passages`` texts at once takes besides the weights."""
        assert self.network is not None
        stacks = self.network.stacks
        depth = stacks[1].config if len(stacks) > 1 else None
        half = "16" in str(self.trainer.precision)
        return listening_bytes(self.token_lm, self.network.config, passages, half=half, depth=depth)

    def probe(self, data: StageData) -> TokenProbe:
        """Return what the training is measured by: utterances that the network draws."""
        from tts_train.families.token_lm.frames.layout import FrameLayout
        from tts_train.families.token_lm.probe import FrameProbe, TokenProbe

        return (FrameProbe if isinstance(self.token_lm.layout, FrameLayout) else TokenProbe)(self, data)

    def describe(self) -> Mapping[str, Any]:
        """Return the language model's configuration."""
        assert self.network is not None
        described: dict[str, Any] = json.loads(self.network.config.to_json_string(use_diff=False))
        return described

    def stored_names(self) -> set[str]:
        """Return the names of what is trained, tied weights once."""
        assert self.network is not None
        if self.method == "full":
            # keep_vars: only names are wanted, and no tensor is detached for them.
            names = set(self.network.state_dict(keep_vars=True))
            return {PREFIX + name for name in names - self.network.tied_names}
        return {PREFIX + name for name in (*trainable_parameters(self.network), *self.network.kept_buffers)}

    def _loaded(self, device: torch.device | None) -> TokenNetwork:
        with torch.device("cpu"):  # in Lightning's context the whole base would lie on the card before it is quantised
            lm = load_initial(self.token_lm, self.init_from, dtype=self._load_dtype(), tiny=self.tiny)
            network = build_network(lm, self.token_lm.layout, self.head)
            apply_method(network, self.method, self.lora, device=device)
        return network

    def _set_up(self, network: TokenNetwork) -> None:
        if self.float8.recipe != "off":
            device, precision = self.trainer.strategy.root_device, str(self.trainer.precision)
            for stack in network.stacks:
                use_float8(stack.layers, self.float8, device=device, precision=precision)
        if self.gradient_checkpointing:
            network.enable_checkpointing(self.checkpoint_share)
        if self.freeze_embedding:
            network.lm.get_input_embeddings().requires_grad_(False)
            network.lm.get_output_embeddings().requires_grad_(False)
        network.offload_activations = self.offload_activations
        if choose_fused(self.kernels, self.trainer.strategy.root_device if self._trainer else self.device):
            network.use_fused_kernels(layers=self.kernels == "fused" or can_fuse(network.lm))

    def _forward(self, batch: TokenBatch) -> NetworkOutput:
        assert self.network is not None
        output: NetworkOutput = self.network(batch)
        return output

    def _logs_now(self) -> bool:
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return (self.trainer.global_step + 1) % max(every, 1) == 0

    def _load_dtype(self) -> torch.dtype:
        if self.dtype_name != "auto":
            return DTYPES[self.dtype_name]
        kind, _, how = str(self.trainer.precision).partition("-")
        # Mixed precision keeps trained weights in float32. A frozen base needs no more than what it is multiplied in.
        half = {"bf16": torch.bfloat16, "16": torch.float16}.get(kind)
        return half if half is not None and (how == "true" or self.method != "full") else torch.float32

    def _quantised_on(self) -> torch.device | None:
        """Return the device that a quantised base is made on.

        Raises:
            ConfigError: if the strategy shards, which packed 4- and 8-bit weights do not survive.
        """
        if self.method not in ("qlora", "lora-8bit"):
            return None
        if self.device_mesh is not None:
            raise ConfigError(
                f"--model.method {self.method} cannot be sharded over processes; use --model.method lora, or a "
                "strategy that gives each process its own copy (--trainer.strategy ddp)."
            )
        return self.trainer.strategy.root_device

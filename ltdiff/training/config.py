"""Settings of a training run: one frozen, typed section per owner; made by system/settings_tree.py."""

from dataclasses import dataclass, field
from typing import Literal

from ltdiff.diffusion.config import DiffusionConfig
from ltdiff.model.config import ModelConfig, Precision
from ltdiff.system.settings_tree import make_settings, read_configuration


@dataclass(frozen=True)
class LossConfig:
    """Losses and their weights.

    Args:
        reconstruction: robust regression (Charbonnier) per head, or the paper's BCE + soft Dice on intensities in [0, 1].
        supervision_weights: deep-supervision weights w_j of the image heads, the full decoder's last.
        lambda_image: λ, weight of the image term of the joint phase.
        decode: which decoded image the joint phase trains: `residual` (together with direct) or `direct` alone.
    """

    reconstruction: Literal["robust", "bce_dice"] = "robust"
    supervision_weights: tuple[float, ...] = (0.1, 1.0)
    lambda_image: float = 10.0
    decode: Literal["residual", "direct"] = "direct"

    def __post_init__(self) -> None:
        if min(self.supervision_weights, default=-1.0) < 0 or sum(self.supervision_weights) <= 0:
            raise ValueError(f"supervision_weights must not be negative nor all zero, got {self.supervision_weights}")
        if self.lambda_image < 0:
            raise ValueError(f"lambda_image (λ) must not be negative, got {self.lambda_image}")


@dataclass(frozen=True)
class PhaseConfig:
    """Length and learning rate of one phase.

    Args:
        num_steps: optimizer steps; 0 skips the phase.
        learning_rate: peak of the learning-rate schedule (short linear warm-up, then a cosine to zero).
    """

    num_steps: int
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        if self.num_steps < 0 or self.learning_rate <= 0:
            raise ValueError(f"a phase needs num_steps >= 0 and learning_rate > 0, got {self.num_steps} and {self.learning_rate}")


SHARES = {"autoencoder": 0.04, "ddpm": 0.04, "residual": 0.1}
"""Shares of a training's minutes; the joint phase has the rest (docs/notes/ablation.md)."""
BATCH_SIZE, CPU_BATCH_SIZE = 8, 2
PATCHES_PER_CHECKPOINT = 1600


@dataclass(frozen=True)
class TrainingConfig:
    """Training of the four phases.

    Args:
        autoencoder: phase 1, encoder and decoder on all images.
        ddpm: phase 2, the latent diffusion on pairs, encoder and decoder fixed.
        joint: phase 3, denoiser and decoder together on pairs, encoder fixed.
        residual: phase 4, the diffusion of what the mean leaves over, all else fixed.
        minutes: training time of all phases together, instead of their num_steps; with one worker only, and no longer
            reproducible to the last bit. The learning rate of the joint phase is then the best of `learning_rates`, unless one is
            set that is not the default.
        learning_rates: learning rates that are tried for a short time each, on top of the minutes; a single one is not tried.
        patch_size: side of the training patches in pixels.
        batch_size_per_worker: patches per step and worker; by default 8, and 2 where minutes are those of a CPU: more steps then
            teach more (docs/notes/ablation.md).
        gradient_accumulation_steps: a worker's batch is computed in that many parts, one after the other, to save memory.
        num_workers: workers of Ray Train.
        use_gpu: one GPU for every worker.
        precision: arithmetic of the forward and backward pass; weights stay in float32. `auto`: bf16 where the worker's device
            has instructions for it, else fp32.
        ema_decay: decay of the exponential moving average of the weights, which is what is kept.
        checkpoint_every_steps: a checkpoint and a validation loss every so many steps; by default after 1600 patches of a worker.
        seed: seed of weights, patches, augmentation and noise.
        init: weights to begin with: `pretrained`, trained on simulated scans of all kinds (configs/pretrained), for networks
            of the default shapes; or `scratch`, drawn at random.
    """

    autoencoder: PhaseConfig = field(default_factory=lambda: PhaseConfig(num_steps=500))
    ddpm: PhaseConfig = field(default_factory=lambda: PhaseConfig(num_steps=600))
    joint: PhaseConfig = field(default_factory=lambda: PhaseConfig(num_steps=2000))
    residual: PhaseConfig = field(default_factory=lambda: PhaseConfig(num_steps=2400, learning_rate=2e-3))
    minutes: float | None = None
    learning_rates: tuple[float, ...] = (4e-4, 1e-3, 2.5e-3)
    patch_size: int = 128
    batch_size_per_worker: int | None = None
    gradient_accumulation_steps: int = 1
    num_workers: int = 1
    use_gpu: bool = False
    precision: Precision = "auto"
    ema_decay: float = 0.998
    checkpoint_every_steps: int | None = None
    seed: int = 0
    init: Literal["pretrained", "scratch"] = "scratch"

    def __post_init__(self) -> None:
        for name in ("patch_size", "batch_size_per_worker", "num_workers", "checkpoint_every_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.gradient_accumulation_steps < 1 or self.batch_size % self.gradient_accumulation_steps:
            raise ValueError(
                f"gradient_accumulation_steps must divide batch_size_per_worker {self.batch_size}, "
                f"got {self.gradient_accumulation_steps}"
            )
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in 0…{2**32 - 1}, got {self.seed}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in 0…1, 1 excluded, got {self.ema_decay}")
        if not self.learning_rates or min(self.learning_rates) <= 0:
            raise ValueError(f"learning_rates must name at least one, all above 0, got {self.learning_rates}")
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"minutes must be above 0, got {self.minutes}")
        if self.minutes is not None and self.num_workers > 1:
            raise ValueError(f"minutes needs num_workers 1, got {self.num_workers}: workers would stop apart")

    @property
    def batch_size(self) -> int:
        """Patches per step and worker, except in phase 4."""
        if self.batch_size_per_worker is not None:
            return self.batch_size_per_worker
        return BATCH_SIZE if self.minutes is None or self.use_gpu else CPU_BATCH_SIZE

    def batch_size_of(self, name: str) -> int:
        """Return the patches per step and worker of a phase; phase 4 uses them in quarters."""
        return self.batch_size_per_worker or (BATCH_SIZE if name == "residual" else self.batch_size)

    def checkpoint_every(self, name: str) -> int:
        """Return the steps from one checkpoint of a phase to the next."""
        return self.checkpoint_every_steps or max(1, PATCHES_PER_CHECKPOINT // self.batch_size_of(name))

    @property
    def phases(self) -> tuple[str, ...]:
        """Names of the phases that are trained, in order: those with steps; pretrained weights skip the first."""
        names = ("autoencoder", "ddpm", "joint", "residual")[self.init == "pretrained" :]
        return tuple(name for name in names if getattr(self, name).num_steps > 0)

    def minutes_of(self, name: str) -> float | None:
        """Return the minutes of a phase; None where its length is given in steps."""
        if self.minutes is None:
            return None
        rest = 1 - sum(SHARES[each] for each in self.phases if each in SHARES)
        return SHARES.get(name, rest) * self.minutes

    def rates_of(self, name: str) -> tuple[float, ...]:
        """Return the learning rates to try for a phase; a single one is used as it is."""
        rate = getattr(self, name).learning_rate
        is_tried = self.minutes is not None and name == "joint" and rate == PhaseConfig(0).learning_rate
        return self.learning_rates if is_tried else (rate,)


@dataclass(frozen=True)
class Settings:
    """All settings of a run.

    Args:
        model: the networks.
        diffusion: noise process and sampler.
        loss: losses and their weights.
        training: phases, patches, workers.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        num_heads = self.model.autoencoder.num_levels - 1
        if len(self.loss.supervision_weights) != num_heads:
            raise ValueError(
                f"loss.supervision_weights must name one weight for each of the {num_heads} image heads, "
                f"got {self.loss.supervision_weights}"
            )
        if self.training.patch_size % self.model.autoencoder.size_divisor:
            raise ValueError(
                f"training.patch_size must be a multiple of {self.model.autoencoder.size_divisor}, got {self.training.patch_size}"
            )


def read_settings(config: str) -> Settings:
    """Settings of a configuration: the name of one in ltdiff/configs, or a YAML file.

    Raises:
        ValueError: there is none; or an unknown key or a bad value in it, which is named.
    """
    try:
        return make_settings(Settings, read_configuration(config))
    except ValueError as error:
        raise ValueError(f"{config}: {error}") from error

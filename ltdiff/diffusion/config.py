"""Settings of the diffusion: noise process, noise schedule, sampler."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class ScheduleConfig:
    """Noise schedule of the `ddpm` process.

    Args:
        family: `linear` in β (Ho 2020) or `cosine` in ᾱ (Nichol 2021, eq. 17; β_1 and β_T are then not used).
        beta_1: β at the first step.
        beta_T: β at the last step.
        num_train_timesteps: number of steps T of the chain.
    """

    family: Literal["linear", "cosine"] = "linear"
    beta_1: float = 1e-4
    beta_T: float = 0.02
    num_train_timesteps: int = 1000

    def __post_init__(self) -> None:
        if not 0 < self.beta_1 <= self.beta_T < 1:
            raise ValueError(f"betas must satisfy 0 < beta_1 <= beta_T < 1, got {self.beta_1} and {self.beta_T}")
        if self.num_train_timesteps < 1:
            raise ValueError(f"num_train_timesteps must be at least 1, got {self.num_train_timesteps}")


@dataclass(frozen=True)
class DiffusionConfig:
    """Choice of process, with its parameters.

    Args:
        process: `bridge` starts at the source's latent and needs few steps; `ddpm` is the paper's chain.
        kappa: noise level κ of the bridge in training, in standard deviations of the latent.
        endpoint_fraction: bridge only: share of the training times that are 1, where every sampler starts; the rest is uniform.
        schedule: noise schedule of the ddpm.
        start_timestep: ddpm only: τ, the time at which sampling starts from the noised source latent.
        paper_start: ddpm only: start from Z_A + η at T, as the paper prints it.
        num_inference_steps: default number of sampling steps; None: 1 for the bridge, 50 for the ddpm.
    """

    process: Literal["bridge", "ddpm"] = "bridge"
    kappa: float = 0.1
    endpoint_fraction: float = 0.9
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    start_timestep: int = 400
    paper_start: bool = False
    num_inference_steps: int | None = None

    def __post_init__(self) -> None:
        if self.kappa < 0:
            raise ValueError(f"kappa must not be negative, got {self.kappa}")
        if not 0 <= self.endpoint_fraction <= 1:
            raise ValueError(f"endpoint_fraction must lie in 0…1, got {self.endpoint_fraction}")
        if not 1 <= self.start_timestep <= self.schedule.num_train_timesteps:
            raise ValueError(f"start_timestep must lie in 1…{self.schedule.num_train_timesteps}, got {self.start_timestep}")
        if self.num_inference_steps is not None and self.num_inference_steps < 1:
            raise ValueError(f"num_inference_steps must be at least 1, got {self.num_inference_steps}")

    @property
    def num_steps(self) -> int:
        """Sampling steps where nobody asks for another number."""
        return self.num_inference_steps or {"bridge": 1, "ddpm": 50}[self.process]

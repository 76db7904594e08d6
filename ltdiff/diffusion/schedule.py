"""The noise schedule β_t: data, read by training and by sampling, so that the two cannot disagree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


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
        """Refuse schedules that are no noise schedules."""
        if not 0 < self.beta_1 <= self.beta_T < 1:
            raise ValueError(f"betas must satisfy 0 < beta_1 <= beta_T < 1, got {self.beta_1} and {self.beta_T}")
        if self.num_train_timesteps < 1:
            raise ValueError(f"num_train_timesteps must be at least 1, got {self.num_train_timesteps}")


class Schedule:
    """β_t and ᾱ_t = Π_{i≤t} (1 − β_i) for t = 0 … T, with ᾱ_0 = 1 (no noise) and β_0 = 0."""

    def __init__(self, config: ScheduleConfig) -> None:
        self.num_train_timesteps = config.num_train_timesteps
        self.betas = torch.cat([torch.zeros(1, dtype=torch.float64), _make_betas(config)])
        self.alphas_cumprod = torch.cumprod(1 - self.betas, dim=0)

    def at(self, t: Tensor, like: Tensor) -> Tensor:
        """ᾱ_t for integer times t (B,), shaped to broadcast over `like` (B, …) and in its dtype."""
        values = self.alphas_cumprod[t.long().cpu()].to(dtype=like.dtype, device=like.device)
        return values.view(-1, *[1] * (like.ndim - 1))


def _make_betas(config: ScheduleConfig) -> Tensor:
    num_steps = config.num_train_timesteps
    if config.family == "linear":
        return torch.linspace(config.beta_1, config.beta_T, num_steps, dtype=torch.float64)
    offset = 0.008
    times = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    alphas_cumprod = torch.cos((times + offset) / (1 + offset) * torch.pi / 2) ** 2
    return (1 - alphas_cumprod[1:] / alphas_cumprod[:-1]).clamp(max=0.999)

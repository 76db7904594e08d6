"""The noise schedule β_t: data, read by training and by sampling, so that the two cannot disagree."""

import torch
from torch import Tensor

from ltdiff.diffusion.config import ScheduleConfig


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

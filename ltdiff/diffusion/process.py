"""The two noise processes that carry a source latent to a target latent, behind one interface.

Symbols: `z_0` the target latent Z_B, `source` the condition Z_A = E(Ã), `z_t` the noisy latent at time t, `eps` unit noise,
`output` what the denoising network returns. Times run from 0 (the target) to `t_max` (where sampling starts); every
transition names both of its times, `step(z_t, t, s)` with s < t, so strided samplers cannot be got wrong.
The condition is the source's latent, the target's is only ever a training target.
"""

from typing import Protocol

import torch
from torch import Tensor
from typing_extensions import override

from ltdiff.diffusion.config import DiffusionConfig, ScheduleConfig


class Process(Protocol):
    """Noise process as training and sampling see it; tensors are (B, C, H, W), times are (B,)."""

    t_max: float

    def sample_times(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Training times (B,), all of them > 0."""

    def unit_time(self, t: Tensor) -> Tensor:
        """Times scaled to [0, 1], as the network sees them."""

    def add_noise(self, z_0: Tensor, *, source: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """z_t drawn from the marginal q(z_t | z_0, source)."""

    def predict_z0(self, output: Tensor, *, z_t: Tensor, source: Tensor, t: Tensor) -> Tensor:
        """The one-step estimate Ẑ_0 that the network's output stands for."""

    def network_target(self, z_0: Tensor, *, source: Tensor, eps: Tensor) -> Tensor:
        """Training target of the network's output."""

    def start(self, source: Tensor, *, eps: Tensor) -> Tensor:
        """z at `t_max`, made from the source alone."""

    def step(self, z_t: Tensor, *, z_0: Tensor, t: Tensor, s: Tensor, eps: Tensor) -> Tensor:
        """z_s drawn from the posterior q(z_s | z_t, z_0), s < t; at s = 0 it is z_0."""

    def time_grid(self, num_steps: int) -> Tensor:
        """Times t_max = t_0 > t_1 > … > t_N = 0 of a sampler with N steps."""


def make_process(config: DiffusionConfig, *, sampling: bool = False) -> Process:
    """The process that the configuration names, as it is trained or as it is sampled.

    The bridge is sampled with κ = 0: the mean of every step is closer to the target than a draw (docs/notes/ablation.md).
    """
    if config.process == "ddpm":
        return DDPM(config)
    return Bridge(0.0 if sampling else config.kappa, config.endpoint_fraction)


class Bridge(Process):
    """Source-anchored process: z_t = (1 − t)·z_0 + t·source + κ√t·ε, t in (0, 1].

    The network predicts a correction to the source, so one that returns zeros changes nothing.
    κ√t is a Wiener process κW_t, hence the posterior W_s | W_t ~ N(s/t·W_t, s(1 − s/t)).
    """

    t_max = 1.0

    def __init__(self, kappa: float, endpoint_fraction: float = 0.0) -> None:
        self.kappa = kappa
        self.endpoint_fraction = endpoint_fraction

    def sample_times(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """1 for a share of them, the others uniform on (0, 1]."""
        is_start = torch.rand(batch_size, generator=generator) < self.endpoint_fraction
        return torch.where(is_start, 1.0, 1 - torch.rand(batch_size, generator=generator))

    def unit_time(self, t: Tensor) -> Tensor:
        """Already in [0, 1]."""
        return t

    @override
    def add_noise(self, z_0: Tensor, *, source: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        t = _broadcast(t, z_0)
        return (1 - t) * z_0 + t * source + self.kappa * t.sqrt() * eps

    @override
    def predict_z0(self, output: Tensor, *, z_t: Tensor, source: Tensor, t: Tensor) -> Tensor:
        return source + output

    @override
    def network_target(self, z_0: Tensor, *, source: Tensor, eps: Tensor) -> Tensor:
        return z_0 - source

    @override
    def start(self, source: Tensor, *, eps: Tensor) -> Tensor:
        return source + self.kappa * eps

    @override
    def step(self, z_t: Tensor, *, z_0: Tensor, t: Tensor, s: Tensor, eps: Tensor) -> Tensor:
        """Mean (1 − s/t)·z_0 + s/t·z_t, variance κ²s(1 − s/t)."""
        ratio = _broadcast(s / t, z_t)
        spread = self.kappa * (_broadcast(s, z_t) * (1 - ratio)).sqrt()
        return (1 - ratio) * z_0 + ratio * z_t + spread * eps

    def time_grid(self, num_steps: int) -> Tensor:
        """Uniform."""
        return torch.linspace(1, 0, num_steps + 1)


class Schedule:
    """The noise schedule: data, read by training and by sampling, so that the two cannot disagree.

    β_t and ᾱ_t = Π_{i≤t} (1 − β_i) for t = 0 … T, with ᾱ_0 = 1 (no noise) and β_0 = 0.
    """

    def __init__(self, config: ScheduleConfig) -> None:
        self.num_train_timesteps = config.num_train_timesteps
        self.betas = torch.cat([torch.zeros(1, dtype=torch.float64), _make_betas(config)])
        self.alphas_cumprod = torch.cumprod(1 - self.betas, dim=0)

    def at(self, t: Tensor, like: Tensor) -> Tensor:
        """ᾱ_t for integer times t (B,), shaped to broadcast over `like` (B, …) and in its dtype."""
        return _broadcast(self.alphas_cumprod[t.long().cpu()], like)


def _make_betas(config: ScheduleConfig) -> Tensor:
    num_steps = config.num_train_timesteps
    if config.family == "linear":
        return torch.linspace(config.beta_1, config.beta_T, num_steps, dtype=torch.float64)
    offset = 0.008
    times = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    alphas_cumprod = torch.cos((times + offset) / (1 + offset) * torch.pi / 2) ** 2
    return (1 - alphas_cumprod[1:] / alphas_cumprod[:-1]).clamp(max=0.999)


class DDPM(Process):
    """The paper's Markov chain on Z_B: z_t = √ᾱ_t·z_0 + √(1 − ᾱ_t)·ε, t in 1 … T; the network predicts ε.

    Sampling starts at τ from √ᾱ_τ·Z_A + √(1 − ᾱ_τ)·η, the chain's marginal with the source in the target's place,
    or (`paper_start`) at T from Z_A + η.
    """

    def __init__(self, config: DiffusionConfig) -> None:
        self.schedule = Schedule(config.schedule)
        self.paper_start = config.paper_start
        self.t_max = float(self.schedule.num_train_timesteps if config.paper_start else config.start_timestep)

    def sample_times(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Uniform on 1 … t_max: later times are never visited by the sampler."""
        return torch.randint(1, int(self.t_max) + 1, (batch_size,), generator=generator)

    def unit_time(self, t: Tensor) -> Tensor:
        """t / T."""
        return t / self.schedule.num_train_timesteps

    @override
    def add_noise(self, z_0: Tensor, *, source: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """The source plays no part in the chain's marginal."""
        alpha_bar = self.schedule.at(t, z_0)
        return alpha_bar.sqrt() * z_0 + (1 - alpha_bar).sqrt() * eps

    @override
    def predict_z0(self, output: Tensor, *, z_t: Tensor, source: Tensor, t: Tensor) -> Tensor:
        alpha_bar = self.schedule.at(t, z_t)
        return (z_t - (1 - alpha_bar).sqrt() * output) / alpha_bar.sqrt()

    @override
    def network_target(self, z_0: Tensor, *, source: Tensor, eps: Tensor) -> Tensor:
        return eps

    @override
    def start(self, source: Tensor, *, eps: Tensor) -> Tensor:
        if self.paper_start:
            return source + eps
        t = torch.full((source.shape[0],), self.t_max)
        return self.add_noise(source, source=source, t=t, eps=eps)

    @override
    def step(self, z_t: Tensor, *, z_0: Tensor, t: Tensor, s: Tensor, eps: Tensor) -> Tensor:
        """Ho 2020, eq. 7, for a stride t → s."""
        alpha_bar_t, alpha_bar_s = self.schedule.at(t, z_t), self.schedule.at(s, z_t)
        beta = 1 - alpha_bar_t / alpha_bar_s
        of_z0 = alpha_bar_s.sqrt() * beta / (1 - alpha_bar_t)
        of_zt = (alpha_bar_t / alpha_bar_s).sqrt() * (1 - alpha_bar_s) / (1 - alpha_bar_t)
        variance = beta * (1 - alpha_bar_s) / (1 - alpha_bar_t)
        return of_z0 * z_0 + of_zt * z_t + variance.sqrt() * eps

    def time_grid(self, num_steps: int) -> Tensor:
        """Uniform, whole times; at most τ steps."""
        if num_steps > self.t_max:
            raise ValueError(f"{num_steps} sampling steps are more than the chain's {int(self.t_max)}")
        return torch.linspace(self.t_max, 0, num_steps + 1).round()


def _broadcast(t: Tensor, like: Tensor) -> Tensor:
    return t.to(dtype=like.dtype, device=like.device).view(-1, *[1] * (like.ndim - 1))

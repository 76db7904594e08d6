"""The paper's three training phases and a fourth behind one protocol: a module whose forward gives the loss of a batch.

1. `autoencoder`: encoder and decoder on all images, source and target and unpaired alike.
2. `ddpm`: the denoiser on pairs of latents, encoder and decoder fixed.
3. `joint`: denoiser and decoder on pairs: ‖Ẑ_0 − Z_B‖² + λ·ρ(A' − B), A' decoded from the one-step estimate Ẑ_0; the
   encoder is fixed and Z_B carries no gradient.
4. `residual`: the diffusion of what A' leaves over of B (model/residual_flow), all else fixed.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from ltdiff.diffusion.process import make_process
from ltdiff.model.latent import Latents
from ltdiff.model.ltdiff import LTDiff
from ltdiff.training.config import Settings
from ltdiff.training.losses import image_loss, supervise
from ltdiff.training.phase import Batch, BatchNoise, Phase, to_input, to_position_mm, train_only
from ltdiff.training.residual_phase import ResidualPhase


class AutoencoderPhase(Phase):
    """Phase 1: reconstruct every image at every supervised head, and track the moments of the latents."""

    uses_pairs = False
    tracks_batches = True

    def __init__(self, model: LTDiff, settings: Settings) -> None:
        super().__init__()
        self.config = settings.training.autoencoder
        self.model = train_only(model, "encoder", "decoder")
        self.weights = settings.loss.supervision_weights
        self.image_loss = image_loss(settings.loss)

    @override
    def forward(self, batch: Batch, noise: BatchNoise) -> dict[str, Tensor]:
        x = to_input(batch["image"])
        latents, features = self.model.encoder(x)
        if self.training:
            self.model.scaling.track(latents)
        heads = self.model.decoder(latents, features, position_mm=to_position_mm(batch))
        return {"loss": supervise(self.image_loss, heads, x, self.weights)}


class DDPMPhase(Phase):
    """Phase 2: train the denoiser between the fixed latents of source and target."""

    def __init__(self, model: LTDiff, settings: Settings) -> None:
        super().__init__()
        self.config = settings.training.ddpm
        self.model = train_only(model, "denoiser")
        self.process = make_process(settings.diffusion)

    @override
    def forward(self, batch: Batch, noise: BatchNoise) -> dict[str, Tensor]:
        return {"loss": self.diffuse(batch, noise).loss}

    def diffuse(self, batch: Batch, noise: BatchNoise) -> "_Diffused":
        """Noise Z_B to a random time, predict it back, and compare: one mean square for every level."""
        with torch.no_grad():
            source, features = self.model.encode(to_input(batch["source"]))
            target, _ = self.model.encode(to_input(batch["target"]))
        t = noise.times(self.process)
        eps = [noise.like(z) for z in target]
        z_t = [self.process.add_noise(z, source=a, t=t, eps=e) for z, a, e in zip(target, source, eps, strict=True)]
        outputs = self.model.denoise(z_t, source, self.process.unit_time(t).to(z_t[0].device))
        goals = [self.process.network_target(z, source=a, eps=e) for z, a, e in zip(target, source, eps, strict=True)]
        loss = torch.stack([functional.mse_loss(o.float(), g) for o, g in zip(outputs, goals, strict=True)]).mean()
        estimate = [
            self.process.predict_z0(o.float(), z_t=z, source=a, t=t) for o, z, a in zip(outputs, z_t, source, strict=True)
        ]
        return _Diffused(loss, estimate, source, features)


class JointPhase(DDPMPhase):
    """Phase 3: the diffusion's loss and the decoded image's, denoiser and decoder together."""

    def __init__(self, model: LTDiff, settings: Settings) -> None:
        super().__init__(model, settings)
        self.config = settings.training.joint
        train_only(model, "denoiser", "decoder")
        self.loss_config = settings.loss
        self.image_loss = image_loss(settings.loss)

    @override
    def forward(self, batch: Batch, noise: BatchNoise) -> dict[str, Tensor]:
        diffused = self.diffuse(batch, noise)
        image = self.image_term(diffused, batch)
        return {"loss": diffused.loss + self.loss_config.lambda_image * image, "latent_loss": diffused.loss, "image_loss": image}

    def image_term(self, diffused: "_Diffused", batch: Batch) -> Tensor:
        """ρ(A' − B) at every head. `residual` keeps a `direct` term, without which direct decoding would be unlearned."""
        weights, position_mm = self.loss_config.supervision_weights, to_position_mm(batch)
        source, target = to_input(batch["source"]), to_input(batch["target"])
        direct = self.model.decode(diffused.estimate, diffused.features, position_mm=position_mm)
        term = supervise(self.image_loss, direct, target, weights)
        if self.loss_config.decode == "direct":
            return term
        own = self.model.decode(diffused.source, diffused.features, position_mm=position_mm)
        residual = [source + d - o for d, o in zip(direct, own, strict=True)]
        return 0.5 * (term + supervise(self.image_loss, residual, target, weights))


PHASES: dict[str, type[AutoencoderPhase] | type[DDPMPhase] | type[JointPhase] | type[ResidualPhase]] = {
    "autoencoder": AutoencoderPhase,
    "ddpm": DDPMPhase,
    "joint": JointPhase,
    "residual": ResidualPhase,
}
"""The phases in their order."""


class _Diffused(NamedTuple):
    loss: Tensor
    estimate: Latents
    source: Latents
    features: list[Tensor]

"""Settings of inference."""

from dataclasses import dataclass
from typing import Literal

from ltdiff.model.config import Output, Precision

MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class InferenceConfig:
    """How a trained model is used.

    Args:
        decode: `residual`: A' = Ã + D(Z_A') − D(E(Ã)), so what the autoencoder cannot hold is not lost;
            `direct`: A' = D(Z_A'), as in the paper. None takes what the model was trained for.
        num_inference_steps: sampling steps; None takes the model's default.
        decoder_depth: UNet++ pruning: decode at the head X[0, depth] of the nested decoder and leave out what only deeper ones
            need, which is faster; None takes the deepest.
        precision: arithmetic of the networks; `auto`: bf16 where the device has instructions for it, else fp32.
        output: `mean`: A' itself; `sample`: one possible target image, A' plus a draw of the residual noise
            (see `ResidualNoiseModel`); `match`: the kernel match Ã alone, without the networks.
            None takes what validation chose when the model was calibrated; the mean of one that is not.
        seed: seed of all noise. Each slice has its own noise, a function of the seed and its number.
    """

    decode: Literal["residual", "direct"] | None = None
    num_inference_steps: int | None = None
    decoder_depth: int | None = None
    precision: Precision = "auto"
    output: Output | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a number of steps that is none, and a seed that not every generator takes."""
        if self.num_inference_steps is not None and self.num_inference_steps < 1:
            raise ValueError(f"num_inference_steps must be at least 1, got {self.num_inference_steps}")
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed must lie in 0…{MAX_SEED}, got {self.seed}")

"""Noise schedule, the two processes (ddpm, bridge) and the sampler. Imports nothing of ours."""

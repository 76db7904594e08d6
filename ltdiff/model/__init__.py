"""The networks: kernel match h, UNet++ encoder and decoder, latent scaling, denoiser."""

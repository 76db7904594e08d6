"""Encoder and decoder: shapes, the wiring of the nodes X[i, j], and what an image can and cannot pass by the latents."""

import pytest
import torch

from ltdiff.model.config import AutoencoderConfig
from ltdiff.model.unetpp import Decoder, Encoder

SHAPES = [
    AutoencoderConfig(
        scale=scale, channels=channels, latent_channels=latent_channels, encoder_skips=skips, image_latent=image_latent
    )
    for scale, channels, latent_channels, skips, image_latent in [
        (1, (4, 6), (2, 1), False, True),
        (2, (4, 6, 8), (2, 2, 3), True, False),
        (2, (4, 6, 8), (4, 2, 3), True, True),
        (4, (3, 5, 7, 9), (1, 2, 3, 4), False, False),
    ]
]
IDS = ["2 levels with image latent", "3 levels with skips", "3 levels with both", "4 levels"]
every_shape = pytest.mark.parametrize("config", SHAPES, ids=IDS)
THREE_LEVELS = AutoencoderConfig(channels=(4, 6, 8), latent_channels=(2, 3, 1), image_latent=False)
IMAGE_LATENT = AutoencoderConfig(channels=(4, 6, 8), latent_channels=(5, 3, 1))


def _latents(config, batch_size=1, size=16):
    return [
        torch.randn(batch_size, c, size // 2**i, size // 2**i, requires_grad=True) for i, c in enumerate(config.latent_channels)
    ]


@every_shape
@pytest.mark.parametrize("multiple", [(1, 1), (2, 3)])
def test_shapes(config, multiple):
    height, width = (config.size_divisor * m for m in multiple)
    latents, features = Encoder(config)(torch.zeros(2, 1, height, width))
    for i, (z, f) in enumerate(zip(latents, features, strict=True)):
        size = (height // (config.scale * 2**i), width // (config.scale * 2**i))
        assert z.shape == (2, config.latent_channels[i], *size)
        assert f.shape == (2, config.channels[i], *size)
    images = Decoder(config)(latents, features)
    assert [image.shape for image in images] == [(2, 1, height, width)] * (config.num_levels - 1)


@every_shape
def test_nodes(config):
    decoder, levels = Decoder(config), range(config.num_levels)
    assert set(decoder.nodes) == {f"{i},{j}" for i in levels for j in levels if i + j < config.num_levels}
    assert set(decoder.up) == {name for name in decoder.nodes if not name.endswith(",0")}


def test_every_node_takes_its_row_and_the_node_below():
    """X[i, j] = H([X[i, 0] … X[i, j−1], U(X[i+1, j−1])])."""
    decoder = Decoder(THREE_LEVELS)
    inputs, x = {}, {}
    for name, node in decoder.nodes.items():
        i, j = map(int, name.split(","))
        node.register_forward_hook(
            lambda _, given, output, key=(i, j): (inputs.update({key: given[0]}), x.update({key: output}))[0]
        )
    decoder(_latents(THREE_LEVELS))
    for i, j in [(0, 1), (0, 2), (1, 1)]:
        below = decoder.up[f"{i},{j}"](x[i + 1, j - 1])
        torch.testing.assert_close(inputs[i, j], torch.cat([*(x[i, k] for k in range(j)), below], dim=1))


@every_shape
def test_a_pruned_decoder_gives_the_same_inner_heads_and_computes_no_more(config):
    decoder, latents = Decoder(config), _latents(config)
    features = [torch.randn_like(z[:, :1]).repeat(1, c, 1, 1) for z, c in zip(latents, config.channels, strict=True)]
    whole = decoder(latents, features)
    computed = []
    for name, node in decoder.nodes.items():
        node.register_forward_hook(lambda *_, key=name: computed.append(key))
    for depth in range(1, config.num_levels):
        computed.clear()
        pruned = decoder(latents, features, depth=depth)
        assert len(pruned) == depth
        torch.testing.assert_close(pruned, whole[:depth])
        assert all(sum(map(int, key.split(","))) <= depth for key in computed)


def test_heads_need_the_levels_above_them_alone():
    """Head j sits on X[0, j], which needs levels 0 … j: the others may be pruned, and the last needs them all."""
    latents = _latents(THREE_LEVELS)
    for j, head in enumerate(Decoder(THREE_LEVELS)(latents), start=1):
        gradients = torch.autograd.grad(head.square().sum(), latents, allow_unused=True, retain_graph=True)
        reached = [gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients]
        assert reached == [level <= j for level in range(3)]


@pytest.mark.parametrize("encoder_skips", [False, True])
def test_the_source_reaches_the_image_through_the_latents_alone(make_model, image, encoder_skips):
    """With Z fixed, D(Z) does not depend on A, unless the ablation's skips let it."""
    model = make_model(encoder_skips=encoder_skips)
    with torch.no_grad():
        z, features = model.encode(image)
        other, other_features = model.encode(image + 1)
        decoded, with_other_features = model.decode(z, features), model.decode(z, other_features)
    assert not torch.equal(z[0], other[0])
    assert [torch.equal(a, b) for a, b in zip(decoded, with_other_features, strict=True)] == [not encoder_skips] * 2


def test_with_an_image_latent_nothing_is_lost_before_anything_is_learned():
    encoder, decoder, image = Encoder(IMAGE_LATENT), Decoder(IMAGE_LATENT), torch.randn(2, 1, 16, 24)
    with torch.no_grad():
        latents, _ = encoder(image)
        first, full = decoder(latents)
    assert torch.equal(latents[0][:, :4], torch.nn.functional.pixel_unshuffle(image, 2))
    assert latents[0].shape[1] == 5
    assert torch.equal(full, image)
    assert not torch.allclose(first, image)  # the other heads learn from the nodes alone


def test_an_image_latent_reaches_the_image_through_the_latents_too():
    encoder, decoder, image = Encoder(IMAGE_LATENT), Decoder(IMAGE_LATENT), torch.randn(2, 1, 16, 24)
    with torch.no_grad():
        latents, _ = encoder(image)
        changed = [latents[0] + 1, *latents[1:]]
        torch.testing.assert_close(decoder(changed)[-1], image + 1)


def test_far_pixels_do_not_matter():
    """Nothing normalizes over space: what a patch taught holds in a slice."""
    torch.manual_seed(0)
    encoder, decoder = Encoder(THREE_LEVELS), Decoder(THREE_LEVELS)
    image = torch.randn(1, 1, 32, 256)
    changed = image.clone()
    changed[..., 200:] += 5
    with torch.no_grad():
        before, after = (decoder(encoder(x)[0])[-1][..., :64] for x in (image, changed))
    torch.testing.assert_close(before, after)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"channels": (4, 6)}, r"channels \(4, 6\)"),
        ({"channels": (4,), "latent_channels": (2,)}, "at least 2"),
        ({"scale": 0}, "scale must be at least 1, got 0"),
        ({"latent_channels": (3, 8, 8)}, r"image_latent needs 4 channels .* \(3, 8, 8\)"),
        ({"latent_channels": (8, 0, 8)}, r"latent_channels must .*\(8, 0, 8\)"),
        ({"channels": (32, -48, 64)}, r"channels .* at least 1, got \(32, -48, 64\)"),
    ],
)
def test_shapes_that_fit_no_network_are_refused(bad, named):
    with pytest.raises(ValueError, match=named):
        AutoencoderConfig(**bad)

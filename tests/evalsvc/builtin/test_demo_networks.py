"""Identities that the networks of the demo keep, whatever their weights."""

import math

import torch
from torch import nn

from evalsvc.builtin.demo import shipped
from evalsvc.builtin.demo.autoregressive import NADE
from evalsvc.builtin.demo.ddpm import STEPS, DDPMModel
from evalsvc.builtin.demo.digits import LEVELS, PIXELS, levels_of, signed, splits
from evalsvc.builtin.demo.flow import FlowModel
from evalsvc.builtin.demo.networks import log_prob_of_levels
from evalsvc.builtin.demo.vae import LATENT, VAEModel
from evalsvc.inputs.checkpoints import Checkpoint, load_into
from evalsvc.plugins.samples import Images


def trained(model: nn.Module, family: str) -> nn.Module:
    last = [s for s in shipped() if s.family == family][-1]
    load_into(model, Checkpoint.open(last.path, family, last.step))
    return model.eval().double().requires_grad_(False)


def digits(n):
    return levels_of(Images(splits()[1].pixels[:n]))


def test_the_probabilities_of_the_levels_sum_to_one():
    mean = torch.linspace(-1.5, 1.5, PIXELS, dtype=torch.float64)[None]
    log_scale = torch.linspace(-9, 2, PIXELS, dtype=torch.float64)
    levels = torch.arange(LEVELS)[:, None].expand(LEVELS, PIXELS)
    total = log_prob_of_levels(levels, mean.expand(LEVELS, PIXELS), log_scale).exp().sum(0)
    torch.testing.assert_close(total, torch.ones(PIXELS, dtype=torch.float64))


def test_autoregressive_no_pixel_sees_itself_or_what_follows():
    model, levels = trained(NADE(), "autoregressive"), digits(1)
    before = model(levels)
    for pixel in range(0, PIXELS, 7):
        changed = levels.clone()
        changed[0, pixel] = (changed[0, pixel] + 5) % LEVELS
        assert model(changed)[0, : pixel + 1].equal(before[0, : pixel + 1])


def test_autoregressive_all_ways_to_end_an_image_sum_to_the_probability_of_its_start():
    model, levels = trained(NADE(), "autoregressive"), digits(1)
    ways = levels.repeat(LEVELS**2, 1)
    ways[:, -2:] = torch.cartesian_prod(torch.arange(LEVELS), torch.arange(LEVELS))
    start = model(levels)[0, :-2].gather(-1, levels[0, :-2, None]).sum()
    torch.testing.assert_close((-model.nats(ways)).logsumexp(0), start)


def test_autoregressive_uniforms_choose_levels_by_their_probabilities():
    model, n = trained(NADE(), "autoregressive"), 4000
    u = torch.full((n, PIXELS), 0.5, dtype=torch.float64)
    u[:, 40] = (torch.arange(n) + 0.5) / n
    drawn = model.levels(u)
    assert (drawn[:, :40] == drawn[0, :40]).all()
    expected = model(drawn[:1])[0, 40].exp()
    torch.testing.assert_close(
        drawn[:, 40].bincount(minlength=LEVELS) / n, expected, rtol=0, atol=5e-4, check_dtype=False
    )


def test_flow_levels_survive_the_way_there_and_back():
    model, levels = trained(FlowModel(), "flow"), digits(50)
    z, _ = model.marginals(levels, torch.full(levels.shape, 0.5, dtype=torch.float64))
    for coupling in model.couplings:
        z, _ = coupling(z)
    assert model.levels(z).equal(levels)


def test_flow_density_has_the_jacobian_of_its_map():
    model, levels = trained(FlowModel(), "flow"), digits(1)
    u = torch.full((1, PIXELS), 0.3, dtype=torch.float64)

    def base(u):
        z, _ = model.marginals(levels, u)
        for coupling in model.couplings:
            z, _ = coupling(z)
        return z[0]

    jacobian = torch.autograd.functional.jacobian(base, u).squeeze(1)
    log_normal = -0.5 * base(u).square().sum() - 0.5 * PIXELS * math.log(2 * math.pi)
    torch.testing.assert_close(model.nats(levels, u)[0], -log_normal - torch.linalg.slogdet(jacobian).logabsdet)


def test_vae_bound_lies_above_the_estimate_by_many_weighted_draws():
    model, levels = trained(VAEModel(), "vae").float(), digits(20)
    noise = torch.randn(500, 20, LATENT, generator=torch.Generator().manual_seed(0))
    mean, log_variance = model.encoder(signed(levels)).chunk(2, dim=1)
    weights, bounds = [], []
    for draw in noise:
        z = mean + draw * (log_variance / 2).exp()
        prior_over_encoder = (-0.5 * z.square() + 0.5 * draw.square() + 0.5 * log_variance).sum(1)
        weights.append(prior_over_encoder + log_prob_of_levels(levels, model.decode(z), model.log_scale).sum(1))
        bounds.append(model.bound(levels, draw))
    bound, log_weights = torch.stack(bounds).mean(0), torch.stack(weights)
    # The mean of the log-weights is the same bound without the closed form of the divergence.
    torch.testing.assert_close(bound.mean(), -log_weights.mean(), rtol=0.01, atol=0)
    assert (bound > math.log(len(noise)) - log_weights.logsumexp(0)).all()


def test_ddpm_steps_back_from_noise_end_at_the_law_whose_best_guess_they_follow():
    model = DDPMModel().eval().requires_grad_(False)
    model.center.copy_(torch.linspace(-0.1, 0.1, PIXELS))
    model.spread.fill_(0.3)
    # Without a correction the guess is the linear one, the best there is for independent normals.
    model.leave.bias.zero_()
    generator = torch.Generator().manual_seed(0)
    x = model.sample(torch.randn(STEPS + 1, 2000, PIXELS, generator=generator))
    torch.testing.assert_close(x.mean(0), model.center, rtol=0, atol=0.03)
    # A little short of the law: fifty steps, of the least variance there can be, with a mean at the end.
    assert 0.88 < x.std(0).mean() / 0.3 < 1
    assert x.T.corrcoef().fill_diagonal_(0).abs().max() < 0.12


def test_ddpm_bound_of_a_model_that_sees_the_image_is_its_last_step_alone():
    model, levels = DDPMModel().double(), digits(4)
    x = signed(levels).double()
    model.clean = lambda noisy, t: x
    found = model.bound(levels, torch.randn(STEPS + 1, *x.shape).double())
    last = -log_prob_of_levels(levels, x, model.log_scale).sum(1)
    torch.testing.assert_close(found, last, rtol=0, atol=0.01)

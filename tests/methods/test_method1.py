"""Notebook 1's functions."""

import pytest
import torch

from helpers.judging import judge, summary

PROMPT = "a person with glasses"


def test_the_optimization_lowers_its_loss_and_repeats_itself(domain, method1, faces):
    optimize = method1.optimize_latent
    first, history = optimize(domain, faces[:2], PROMPT, steps=20)
    second, _ = optimize(domain, faces[:2], PROMPT, steps=20)
    assert first.shape == faces[:2].shape
    assert min(history["loss"]) < history["loss"][0] and {len(values) for values in history.values()} == {20}
    assert torch.equal(first, second)


def test_a_batch_gives_what_single_images_give(domain, method1, faces):
    optimize = method1.optimize_latent
    together, _ = optimize(domain, faces[:2], PROMPT, steps=10)
    alone, _ = optimize(domain, faces[1], PROMPT, steps=10)  # [L, w_dim] counts as one image
    torch.testing.assert_close(together[1:], alone, atol=2e-2, rtol=2e-2)


def test_stop_returns_the_best_so_far(domain, method1, faces):
    states = []

    def stop_at_six(state):
        states.append(state)
        return state["step"] == 6

    result, history = method1.optimize_latent(domain, faces[:1], PROMPT, steps=100, callback=stop_at_six)
    assert len(history["loss"]) == len(states) == 6 and result.shape == faces[:1].shape
    assert states[-1]["image"].shape == (1, 3, 64, 64) and states[-1]["steps"] == 100


def test_ctrl_c_returns_the_best_so_far(domain, method1, faces):
    def interrupt(state):
        if state["step"] == 4:
            raise KeyboardInterrupt

    result, history = method1.optimize_latent(domain, faces[:1], PROMPT, steps=50, callback=interrupt)
    assert len(history["loss"]) == 4 and torch.isfinite(result).all()


def test_strength_zero_is_the_same_picture(domain, method1, faces):
    result, _ = method1.optimize_latent(domain, faces[:1], PROMPT, steps=5)
    again = faces[:1] + 0 * (result - faces[:1])
    assert torch.equal(domain.generator(again), domain.generator(faces[:1]))


def test_bad_input_gets_one_sentence(domain, method1, faces):
    optimize = method1.optimize_latent
    with pytest.raises(ValueError, match="prompt is empty"):
        optimize(domain, faces, "")
    with pytest.raises(ValueError, match="CLIP reads 77"):
        optimize(domain, faces, "beard " * 90)
    with pytest.raises(ValueError, match="another generator"):
        optimize(domain, torch.zeros(1, 18, 512), PROMPT)


def test_equation_1_as_it_stands(domain, method1, faces):
    result, history = method1.optimize_latent(domain, faces[:1], PROMPT, objective="paper", steps=20)
    assert set(history) == {"loss", "clip", "latent", "identity"}
    total = [sum(history[name][i] for name in ("clip", "latent", "identity")) for i in range(20)]
    assert total == pytest.approx(history["loss"], rel=1e-4)
    assert history["latent"][0] == 0 and history["identity"][0] == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match='objective must be "ours" or "paper"'):
        method1.optimize_latent(domain, faces[:1], PROMPT, objective="theirs")


def test_the_neutral_sentence_asks_for_nothing_and_breaks_nothing(domain, method1, faces):
    result, history = method1.optimize_latent(domain, faces[:1], domain.neutral, steps=5)
    assert torch.isfinite(result).all() and all(value == value for value in history["loss"])


def test_edits_do_what_is_asked_and_little_else(domain, method1, faces):
    """A small version of `make bench`, judged by the classifier that drives nothing."""
    before, verdicts = domain.generator(faces), []
    for prompt in ("a person with sunglasses", "a person with purple hair", "a surprised person"):
        after = domain.generator(method1.optimize_latent(domain, faces, prompt, steps=40)[0])
        verdicts.append(judge(domain, before, after, prompt))
    success, unchanged = summary(verdicts)
    assert success >= 0.65 and unchanged >= 0.8

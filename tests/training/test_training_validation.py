import numpy as np
import pytest
import torch

from scaling.data.batches import validation_windows
from scaling.training.model import Decoder, initialise, token_losses
from scaling.training.validation import Validation, validate, write_documents


@pytest.fixture
def model(a_run):
    run = a_run()
    decoder = Decoder(run.shape, None, sequence_length=16)
    initialise(decoder, run.initialisation, seed=0)
    return decoder


def test_sums_per_document_are_those_of_one_token_at_a_time(model, data):
    windows = validation_windows(data.validation["validation"], 16)
    found = validate(model, windows, device=torch.device("cpu"))
    expected = np.zeros_like(found.losses)
    for x, y, owners in zip(windows.inputs, windows.targets, windows.documents, strict=True):
        losses = token_losses(model, torch.tensor(x)[None], torch.tensor(y)[None])[0].detach().numpy()
        for loss, owner in zip(losses, owners, strict=True):
            expected[owner] += loss
    np.testing.assert_allclose(found.losses, expected, rtol=1e-5)
    assert found.tokens.sum() == windows.targets.size
    assert found.loss_nats == pytest.approx(expected.sum() / windows.targets.size, rel=1e-6)
    assert found.loss_per_byte_nats == pytest.approx(expected.sum() / windows.bytes, rel=1e-6)


def test_ranks_share_the_windows(model, data):
    windows = validation_windows(data.validation["validation"], 16)
    device = torch.device("cpu")
    whole = validate(model, windows, device=device)
    parts = [validate(model, windows, device=device, rank=r, world=3) for r in range(3)]
    np.testing.assert_allclose(sum(p.losses for p in parts), whole.losses, rtol=1e-6)
    assert np.array_equal(sum(p.tokens for p in parts), whole.tokens)


def test_the_standard_error_covers_documents_that_differ():
    """Documents with their own level: the reported error matches the spread of the mean over redrawn sets."""
    rng = np.random.default_rng(0)
    means, errors = [], []
    for _ in range(2000):
        tokens = rng.integers(5, 50, 40).astype(float)
        levels = 2 + 0.3 * rng.standard_normal(40)
        v = Validation(levels * tokens, tokens, 1.0)
        means.append(v.loss_nats)
        errors.append(v.loss_se_nats)
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.06)


def test_one_document_has_no_standard_error():
    v = Validation(np.array([5.0, 0.0]), np.array([2.0, 0.0]), 4.0)
    assert v.loss_se_nats is None
    assert v.summary() == {"loss_nats": 2.5, "loss_per_byte_nats": 1.25}


def test_documents_are_kept_for_paired_comparisons(tmp_path):
    v = Validation(np.array([5.0, 1.0]), np.array([2.0, 1.0]), 4.0)
    write_documents(tmp_path / "documents.npz", {"validation": v})
    with np.load(tmp_path / "documents.npz", allow_pickle=False) as kept:
        assert kept["validation.losses"].tolist() == [5.0, 1.0]
        assert kept["validation.tokens"].tolist() == [2.0, 1.0]

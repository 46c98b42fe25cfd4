import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from scaling.data.tokenizer import load_tokenizer
from scaling.errors import TrainingError
from scaling.run import Run
from scaling.training.export import evaluate, export, load_model
from scaling.training.loop import train
from scaling.training.model import Decoder

CPU = torch.device("cpu")


@pytest.fixture(params=["muon", "spectron", "tied", "grouped", "low rank, tied and grouped"])
def finished(request, a_run, data, tmp_path):
    """A run, its result and its weights."""
    shapes = {"tied": {"tied": True}, "grouped": {"kv_heads": 1}}
    if request.param.startswith("low rank"):
        run = a_run("spectron", steps=3, shape={"kv_heads": 1, "tied": True})
    elif request.param in shapes:
        run = a_run("muon", steps=3, shape=shapes[request.param])
    else:
        run = a_run(request.param, steps=3)
    options = {"attempt": 1, "stop": lambda: False, "owns": lambda: True, "log": lambda record: None}
    result = train(run, data=data, folder=tmp_path / "c", **options)
    return run, result, tmp_path / "c" / "weights.safetensors"


def test_export_holds_the_merged_model_and_the_factors(finished, tmp_path):
    run, _, weights = finished
    export(run, weights=weights, out=tmp_path / "out")
    model = load_model(run, weights, device=CPU)
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    torch.testing.assert_close(tensors["model.layers.1.mlp.down_proj.weight"], model.layers[1].down.merged())
    dense = Decoder(run.shape, None, sequence_length=16)
    assert sum(t.numel() for t in tensors.values()) == sum(p.numel() for p in dense.parameters())
    assert (tmp_path / "out" / "factors.safetensors").exists() == (run.ranks is not None)
    assert Run.from_settings(json.loads((tmp_path / "out" / "run.json").read_text())) == run


def test_transformers_gives_equal_logits(finished, tmp_path):
    transformers = pytest.importorskip("transformers")
    run, _, weights = finished
    export(run, weights=weights, out=tmp_path / "out")
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "out").eval()
    ours = load_model(run, weights, device=CPU)
    tokens = torch.randint(0, 64, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, ours(tokens), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["bytes", "bpe:300"])
def test_auto_tokenizer_gives_our_ids(finished, name, tmp_path):
    transformers = pytest.importorskip("transformers")
    run, _, weights = finished
    words = [f"def f_{i}(x):\n    return x + {i}\n" for i in range(100)]
    ours = load_tokenizer(name, documents=lambda: words)
    export(run, weights=weights, out=tmp_path / "out", tokenizer=ours, card="# A model\n")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in ("def f(x):", "  naïve café – 漢字 🙂\n\ttab", "", "a\r\nb", "".join(chr(i) for i in range(1, 256))):
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert ids == ours.encode(text).tolist()
        assert theirs.decode(ids) == text == ours.decode(ids)
    assert theirs.model_max_length == run.sequence_length
    assert (tmp_path / "out" / "README.md").read_text() == "# A model\n"


def test_evaluate_repeats_the_validation_of_the_run(finished, data):
    run, result, weights = finished
    found = evaluate(run, weights=weights, data=data, names=["validation", "other"])
    assert found["validation"].loss_nats == result.loss_nats
    assert found["other"].summary() == result.validation["other"]


def test_weights_of_another_run_or_none_are_refused(finished, data, tmp_path):
    run, _, weights = finished
    other = replace(run, seed=77)
    with pytest.raises(TrainingError, match="another run"):
        export(other, weights=weights, out=tmp_path / "out")
    (tmp_path / "broken").write_bytes(b"x")
    for path in (tmp_path / "none", tmp_path / "broken"):
        with pytest.raises(TrainingError, match="cannot be read"):
            evaluate(run, weights=path, data=data, names=["validation"])
    with pytest.raises(TrainingError, match="vocabulary"):
        evaluate(run, weights=weights, data=replace(data, vocab_size=65), names=["validation"])

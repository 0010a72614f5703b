import pytest

from prefkit.engines import Engines, Model, in_order
from prefkit.engines.placement import Placement, open_engines
from prefkit.errors import EngineError


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer_for):
    """A tiny sentence-transformers model: a random encoder with mean pooling."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel

    root = tmp_path_factory.mktemp("embedder")
    tokenizer = tokenizer_for()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(root / "encoder")
    tokenizer.save_pretrained(root / "encoder")
    encoder = Transformer(str(root / "encoder"))
    SentenceTransformer(modules=[encoder, Pooling(16)], device="cpu").save(str(root / "whole"))
    return root / "whole"


def test_texts_become_vectors_in_their_order_whatever_the_company(folder, tmp_path):
    model = Model(id=str(folder))
    engines = open_engines({"m": model}, Placement(device="cpu"), tmp_path / "memo")
    texts = ["hello world", "", "one two three four " * 5, "hello world"]
    vectors = engines.embed(model, texts)
    assert [len(vector) for vector in vectors] == [16] * 4
    assert vectors[0] == vectors[3]
    assert vectors[0] != vectors[2]
    alone = Engines({model.id: open_engines({"m": model}, Placement(device="cpu")).serving[model.id]})
    assert alone.embed(model, texts[:1])[0] == pytest.approx(vectors[0], abs=1e-5)
    assert engines.spend.counts["calls"] == 3


def test_a_folder_that_cannot_embed_says_what_is_wanted(tmp_path):
    from prefkit.engines.embedding import SentenceEmbeddings

    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EngineError, match="could not be loaded to embed") as caught:
        in_order(SentenceEmbeddings("cpu").embed(Model(id=str(tmp_path)), ["x"]), 1)
    assert "sentence-transformers" in caught.value.hint

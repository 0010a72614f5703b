"""The corrupt stage: an answer and what a model makes of it that cannot see its context."""

from prefkit.conditioning.revisions import HIDDEN
from prefkit.engines import Completion, Engines, Failure, Model
from prefkit.engines.fake import FakeEngine
from prefkit.marks import sentences
from prefkit.stages.corrupt import Corrupt
from prefkit.testing import check_stage, run_stage

MODEL = Model(id="m")
FAKE = Engines({"m": FakeEngine()})
TEXT = "The cat sat down. It was warm there."


class Ends:
    """Ends every sentence with the same words."""

    def __init__(self, words):
        self.words, self.asked = words, []

    def generate(self, model, requests):
        self.asked += requests
        for at, _ in enumerate(requests):
            yield at, self.words if isinstance(self.words, Failure) else Completion(self.words, 3, "stop")


def test_the_model_sees_true_sentences_and_no_context(make_responses):
    answers = make_responses({"p": [1.0]}, texts={"p": [TEXT]})
    engine = Ends("ran to the sea. And more.")
    out = run_stage(Corrupt(model=MODEL, hidden=1.0), answers, engines=Engines({"m": engine})).table
    row = out.to_pylist()[0]
    assert (row["chosen_id"], row["rejected_origin"], row["rejected_score"]) == ("p0", "corruption", None)
    made = row["rejected"][0]["content"]
    assert len(sentences(made)) == 2
    assert made.count("ran to the sea.") == 2
    first, second = engine.asked
    assert {request.messages[0].content for request in engine.asked} == {HIDDEN}
    assert TEXT.startswith(first.messages[-1].content)
    assert second.messages[-1].content.startswith("The cat sat down. It")


def test_what_says_the_same_is_made_again_and_dropped_in_the_end(make_responses):
    answers = make_responses({"p": [1.0]}, texts={"p": ["One."]})
    engine = Ends("")
    out = run_stage(Corrupt(model=MODEL, retries=2), answers, engines=Engines({"m": engine}))
    assert out.notes == {"dropped/too-similar": 1}
    assert len(engine.asked) == 3
    failed = run_stage(Corrupt(model=MODEL), answers, engines=Engines({"m": Ends(Failure("no"))}))
    assert [part["error"].to_pylist() for part in failed.failed] == [["no"]]


class Embeds:
    """Finds texts alike that begin with the same letter, and cannot read what holds `odd`."""

    def embed(self, model, texts):
        for at, text in enumerate(texts):
            vector = (1.0, 0.0) if text[:1] == "T" else (0.0, 1.0)
            yield at, Failure("unreadable") if "odd" in text else vector


def test_embeddings_say_how_alike_two_answers_are(make_responses):
    answers = make_responses({"p": [1.0, 1.0]}, texts={"p": [TEXT, "An odd day. It rained."]})
    engines = Engines({"m": Ends("ran to the sea."), "e": Embeds()})
    stage = Corrupt(model=MODEL, embed=Model(id="e"), retries=1)
    assert "embed" not in Corrupt(model=MODEL).model_dump()
    out = run_stage(stage, answers, engines=engines)
    assert out.notes == {"dropped/too-similar": 1}, "its first word stays"
    assert [part["error"].to_pylist() for part in out.failed] == [["unreadable"]]
    apart = Corrupt(model=MODEL, embed=Model(id="e"), max_similarity=1.0)
    (row,) = run_stage(apart, answers.slice(0, 1), engines=engines).table.to_pylist()
    assert "ran to the sea." in row["rejected"][0]["content"]
    both = make_responses({"p": [1.0], "q": [0.0]}, texts={"p": [TEXT], "q": ["One two. Three four."]})
    check_stage(apart, both, engines=engines)


def test_laws(make_responses, make_pairs):
    texts = {"p": [TEXT, "One two. Three four five! Six."], "q": [""]}
    answers = make_responses({"p": [1.0, 2.0], "q": [0.0]}, texts=texts)
    out = check_stage(Corrupt(model=MODEL), answers, engines=FAKE)
    assert out.num_rows == 2
    for row in out.to_pylist():
        sides = [row[side][0]["content"] for side in ("chosen", "rejected")]
        assert len({len(sentences(side)) for side in sides}) == 1
        assert row["edit_ratio"] >= 0.03
    check_stage(Corrupt(model=MODEL, hidden=0.5), make_pairs(3, chosen=[TEXT] * 3), engines=FAKE)

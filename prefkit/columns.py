"""The vocabulary: every column name prefkit writes, with its Arrow type, meaning, unit and writer.

One name means one thing everywhere: in shards, recipes, cards and errors. A *score* is of a response, a *margin* is
of a pair. Missing is `null`: never -1, never 0, never "". Two families are open-ended, because recipes name them:
a score `s` of a response (float64, with `s_std` when the scorer has a spread) becomes `chosen_s` and `rejected_s` at
pairing, and a source may keep extra columns of any plain type. Messages have the explicit conversational form that
TRL and `datasets` read as it is. There is no Arrow `map<>` anywhere: `datasets` cannot read it.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import pyarrow as pa

__all__ = [
    "ADVANTAGE",
    "COLUMNS",
    "HISTORY",
    "JUDGEMENTS",
    "LEVELS",
    "MESSAGES",
    "RATINGS",
    "SPANS",
    "TEACHER",
    "VOTES",
    "Column",
    "Columns",
    "Level",
    "types",
]

Columns = Mapping[str, pa.DataType]
Level = Literal["prompt", "response", "pair"]
LEVELS: tuple[Level, ...] = ("prompt", "response", "pair")

STRING = pa.string()
F64 = pa.float64()
I32 = pa.int32()
I64 = pa.int64()
BOOL = pa.bool_()

SHARES = pa.list_(F64)
MESSAGES = pa.list_(pa.struct([("role", STRING), ("content", STRING)]))
RATINGS = pa.list_(pa.struct([("annotator", STRING), ("score", F64), ("comment", STRING)]))
VOTES = pa.list_(
    pa.struct(
        [
            ("judge", STRING),
            ("order", STRING),
            ("winner", STRING),
            ("p", F64),
            ("strength", F64),
            ("rationale", STRING),
        ]
    )
)
JUDGEMENTS = pa.list_(
    pa.struct(
        [
            ("judge", STRING),
            ("template", STRING),
            ("task", STRING),
            ("first", STRING),
            ("second", STRING),
            ("sample", I32),
            ("attempt", I32),
            ("verdict", STRING),
            ("value", F64),
            ("p", F64),
            ("flaw", STRING),
            ("counts", BOOL),
            ("raw", STRING),
            ("prompt_tokens", I32),
            ("tokens", I32),
        ]
    )
)
"""Answers of judges as they came. `first` and `second` are ids of responses in the order shown; `verdict` says which of
these is better (first, second or tie) and `p` how likely it is the first; `value` is a score, a place or a step. Where
`flaw` says why an answer could not be read, there is no verdict. An answer that was asked for again, a planted one
(`task`: canary/...) and a consequence do not count."""
SPANS = pa.list_(pa.struct([("start", I32), ("end", I32), ("kind", STRING), ("id", I32), ("value", F64)]))
"""Marked characters [start, end) of a text. `kind`: phrase (`id` is the same where two sides replace each other),
sentence (`value` 1: true, 0: false), step (`id` is its depth, `value` a cosine), weight or kl-weight (`value` in
[0, 1])."""
TEACHER = pa.list_(pa.list_(pa.struct([("id", I32), ("logp", pa.float32())])))
ADVANTAGE = pa.list_(pa.list_(pa.struct([("id", I32), ("value", pa.float32())])))
HISTORY = pa.list_(pa.struct([("model", STRING), ("chosen_logp", F64), ("rejected_logp", F64)]))
RATIONALES = pa.list_(
    pa.struct(
        [
            ("kind", STRING),
            ("model", STRING),
            ("text", STRING),
            ("prompt_text", STRING),
            ("chosen_first", BOOL),
        ]
    )
)

CONDITIONS = pa.list_(pa.struct([("kind", STRING), ("name", STRING), ("value", F64), ("shown", STRING)]))
"""What a prompt says beside its request. `kind`: goal (a score and what it should be), weight (an aspect and its part of
a direction of length 1), shot (the id of a pair that is shown), persona (who is answered), constraint (its name and
number). `shown` is how the prompt words it."""
CONSTRAINTS = pa.list_(
    pa.struct(
        [
            ("where", STRING),
            ("kind", STRING),
            ("argument", STRING),
            ("shown", STRING),
            ("chosen", BOOL),
            ("rejected", BOOL),
        ]
    )
)
"""Demands of `prompt` or `alt_prompt` (`where`) that a program can check, and whether each side meets them."""


class Column(NamedTuple):
    """One word of the vocabulary."""

    name: str
    type: pa.DataType
    levels: tuple[Level, ...]
    """The levels at which a row may carry it. Prompt-level columns are constant within a prompt."""
    meaning: str
    writer: str
    """The stages (or `source`) that write it, as a recipe spells them."""
    unit: str = ""


_ANY = LEVELS
_RESPONSE: tuple[Level, ...] = ("response",)
_PAIR: tuple[Level, ...] = ("pair",)
_SIDE: tuple[Level, ...] = ("response", "pair")

_ALL = (
    # identity and prompt
    Column("id", STRING, _ANY, "identity of the row, a hash of its parents", "source, sample, pair"),
    Column("prompt_id", STRING, _ANY, "identity of the prompt, a hash of its messages and tools", "source"),
    Column("prompt", MESSAGES, _ANY, "the conversation so far; ends with a user turn", "source"),
    Column("tools", STRING, _ANY, "JSON list of tools the prompt offers", "source"),
    Column("reference_answer", STRING, _ANY, "trusted answer a verifier compares with", "source"),
    Column("source", STRING, _ANY, "which source the row came from", "source"),
    Column("domain", STRING, _ANY, "stratum of the prompt: subject, language, subset", "source"),
    Column("split", STRING, _ANY, "`train` or `test`, by hash of the prompt", "split"),
    Column(
        "consistency",
        F64,
        _ANY,
        "how far two scorers order the prompt's responses alike; 1/2 is chance",
        "consistency",
        "[0, 1]",
    ),
    # response
    Column("response", MESSAGES, _RESPONSE, "the answer, usually one assistant turn", "source, sample"),
    Column("index", I32, _RESPONSE, "stable number of the response within its prompt", "source, sample"),
    Column("model", STRING, _RESPONSE, "who wrote the response", "source, sample"),
    Column(
        "origin",
        STRING,
        _RESPONSE,
        "`policy`, `pool`, `dataset`, `human`, `revision` or `corruption`",
        "source, sample",
    ),
    Column("finish", STRING, _RESPONSE, "why generation ended: `stop` or `length`", "sample"),
    Column(
        "n_tokens", I32, _RESPONSE, "length of the response as its sampler counted it", "sample", "tokens"
    ),
    Column(
        "sampler_logp", F64, _RESPONSE, "summed log-prob of the response under its sampler", "sample", "nats"
    ),
    Column("score", F64, _RESPONSE, "how good the response is; higher is better", "source, score, judge"),
    Column("score_std", F64, _RESPONSE, "spread of the score over raters or models", "score"),
    Column("ratings", RATINGS, _RESPONSE, "one score an annotator; higher is better", "source"),
    Column("judgements", JUDGEMENTS, _SIDE, "answers of judges as they came", "judge"),
    Column("first_error", I32, _RESPONSE, "number of the first wrong step, from 1; 0 if none is", "judge"),
    Column("spans", SPANS, _RESPONSE, "marked characters of the response's last turn", "judge", "characters"),
    Column("parent_id", STRING, _RESPONSE, "id of the response whose beginning it has", "continue, tree"),
    Column(
        "prefix_end",
        I32,
        _SIDE,
        "characters of the beginning that is shared",
        "continue, siblings, tree, tree-pairs",
    ),
    Column("step_index", I32, _SIDE, "number of the next step", "continue, siblings, tree, tree-pairs"),
    Column("visits", I64, _RESPONSE, "how often a tree search came by", "tree"),
    Column("q_value", F64, _RESPONSE, "what a tree search finds it worth; higher is better", "tree"),
    Column("pass_rate", F64, _RESPONSE, "share of the prompt's responses with a score of 1", "pass-rate"),
    # pair
    Column("chosen", MESSAGES, _PAIR, "the preferred response", "source, pair"),
    Column("rejected", MESSAGES, _PAIR, "the other response", "source, pair"),
    Column("chosen_id", STRING, _PAIR, "id of the response stored as chosen", "source, pair"),
    Column("rejected_id", STRING, _PAIR, "id of the response stored as rejected", "source, pair"),
    Column("chosen_model", STRING, _PAIR, "who wrote the chosen response", "source, pair"),
    Column("rejected_model", STRING, _PAIR, "who wrote the rejected response", "source, pair"),
    Column("chosen_score", F64, _PAIR, "score of the chosen response", "source, pair"),
    Column("rejected_score", F64, _PAIR, "score of the rejected response", "source, pair"),
    Column("chosen_place", I32, _PAIR, "place of chosen in its prompt's ranking, best 0", "pair"),
    Column("rejected_place", I32, _PAIR, "place of rejected in its prompt's ranking, best 0", "pair"),
    Column(
        "votes",
        VOTES,
        _PAIR,
        "one verdict a judge and order; `winner` is chosen, rejected or tie",
        "source, pair, judge",
    ),
    Column(
        "p_chosen",
        F64,
        _PAIR,
        "graded preference: probability that chosen beats rejected",
        "label, groups",
        "[0, 1]",
    ),
    Column("tie", BOOL, _PAIR, "whether the pair is too close to call", "label"),
    Column("flip_prob", F64, _PAIR, "belief that the row is mislabelled", "label", "[0, 1]"),
    Column("next_judge", STRING, _PAIR, "whose vote would tell most", "label"),
    Column("next_order", STRING, _PAIR, "the order that it should be asked in", "label"),
    Column("next_gain", F64, _PAIR, "doubt that the vote is expected to remove", "label", "nats"),
    Column("flipped", BOOL, _PAIR, "whether `label` reversed the stored direction", "label"),
    Column("margin", F64, _PAIR, "by how much chosen is better", "source, label, margin"),
    Column("strength_std", F64, _PAIR, "how far members of an ensemble are apart in the margin", "label"),
    Column("strength_agree", F64, _PAIR, "share of an ensemble that finds chosen better", "label", "[0, 1]"),
    Column("kept_by", STRING, _PAIR, "which of two scorers finds the pair clear, or `both`", "label"),
    Column("weight", F64, _PAIR, "how much the row counts in training; mean 1", "weight"),
    Column("phase", I32, _PAIR, "curriculum phase, from 0", "order"),
    Column("rank", I64, _PAIR, "position in the order of training, from 0", "order"),
    Column("conditions", CONDITIONS, _ANY, "what the prompt says beside its request", "condition, direction"),
    Column("conditioned_on", STRING, _PAIR, "whose score is the goal, as sides were before", "condition"),
    Column("persona", STRING, _ANY, "who is answered, in words", "personas, source"),
    Column("pair_kind", STRING, _PAIR, "what is compared: `response`, `margin` or `prompt`", "constraints"),
    Column("constraints", CONSTRAINTS, _PAIR, "demands of the prompt and who meets them", "constraints"),
    Column("alt_prompt", MESSAGES, _PAIR, "another prompt that the pair is compared under", "constraints"),
    Column(
        "edit_ratio", F64, _PAIR, "share of the words in which the sides differ", "revise, corrupt", "[0, 1]"
    ),
    Column("route", STRING, _PAIR, "what the pair is for: `dpo`, `sft` or `resample`", "label, order"),
    Column("difficulty", F64, _PAIR, "how hard the pair is to learn; higher is harder", "difficulty"),
    Column(
        "rationales", RATIONALES, _PAIR, "why chosen is better, with the question it answers", "rationale"
    ),
    Column(
        "ref_chosen_logp", F64, _PAIR, "summed log-prob of chosen under the reference", "reference", "nats"
    ),
    Column(
        "ref_rejected_logp",
        F64,
        _PAIR,
        "summed log-prob of rejected under the reference",
        "reference",
        "nats",
    ),
    Column(
        "ref_fingerprint",
        STRING,
        _PAIR,
        "what made the reference log-probs; training refuses another",
        "reference",
    ),
    # what some objectives read beside: see prefkit.objectives
    Column("accept_order", I32, _RESPONSE, "place among the responses kept of its prompt, from 0", "select"),
    Column("accept_prob", F64, _RESPONSE, "how likely it was to be kept when it was", "select"),
    Column(
        "win_rate",
        F64,
        _RESPONSE,
        "mean probability of beating the prompt's responses",
        "win-rate, source",
        "[0, 1]",
    ),
    Column("chosen_win_rate", F64, _PAIR, "`win_rate` of the chosen response", "win-rate, source", "[0, 1]"),
    Column(
        "rejected_win_rate", F64, _PAIR, "`win_rate` of the rejected response", "win-rate, source", "[0, 1]"
    ),
    Column(
        "chosen_spans", SPANS, _PAIR, "marked characters of chosen's last turn", "spans, source", "characters"
    ),
    Column(
        "rejected_spans",
        SPANS,
        _PAIR,
        "marked characters of rejected's last turn",
        "spans, source",
        "characters",
    ),
    Column("annotator", STRING, _PAIR, "who gave the row's label", "annotators, source"),
    Column("group", STRING, _PAIR, "who prefers like its annotator: `a` is the largest group", "groups"),
    Column("group_shares", SHARES, _PAIR, "how much of each group is in the row, `a` first", "groups"),
    Column("dimension", STRING, _PAIR, "what was asked: helpfulness, honesty", "source"),
    Column("pair_group", STRING, _PAIR, "the rows that are views of one pair", "trace, degree, source"),
    Column("trace_mode", STRING, _PAIR, "`trace` or `empty`: with its reasoning or without", "trace, source"),
    Column("degree", I32, _PAIR, "how much of both responses was taken out; 0 is nothing", "degree, source"),
    Column(
        "ref_history", HISTORY, _PAIR, "log-probs under earlier policies, latest first", "reference, source"
    ),
    Column(
        "chosen_teacher",
        TEACHER,
        _PAIR,
        "a teacher's likeliest tokens, per token of chosen",
        "teacher, source",
        "nats",
    ),
    Column(
        "rejected_teacher",
        TEACHER,
        _PAIR,
        "a teacher's likeliest tokens, per token of rejected",
        "teacher, source",
        "nats",
    ),
    Column(
        "rejected_advantage",
        ADVANTAGE,
        _PAIR,
        "what a teacher's training added to its likeliest tokens, per token of rejected",
        "teacher, source",
        "nats",
    ),
    Column(
        "teacher_fingerprint",
        STRING,
        _PAIR,
        "vocabulary, chat template and weights of the teacher, joined by `/`",
        "teacher, source",
    ),
    Column("acq_score", F64, _ANY, "what a label of the row is worth; higher is better", "acquire"),
    Column("acq_rank", I64, _ANY, "place among the rows chosen for labelling, from 0", "acquire"),
    Column("acq_prob", F64, _ANY, "how likely the row was to be chosen for labelling", "acquire", "[0, 1]"),
    # rows that did not go on
    Column("drop_reason", STRING, _ANY, "why the row was dropped; only in dropped shards", "any"),
    Column(
        "error", STRING, _ANY, "why the row failed; only in failed shards, retried on the next build", "any"
    ),
)

COLUMNS: Mapping[str, Column] = {column.name: column for column in _ALL}


def types(*names: str) -> Columns:
    """Return the Arrow types of vocabulary columns, for `reads` and `writes`."""
    return {name: COLUMNS[name].type for name in names}

"""The toy critic as an engine: it says which answer is better, and why, by the rules of the toy world, without weights."""

from collections.abc import Sequence

from prefkit.engines import Answers, Completion, Failure, Model, Request, refuse_beams
from prefkit.errors import PrefkitError

__all__ = ["ToyCritic"]


class ToyCritic:
    """Generates. Its answer is a function of the messages alone: settings and seeds change nothing."""

    def generate(self, model: Model, requests: Sequence[Request]) -> Answers[Completion]:
        """Yield one verdict or rationale per request; a Failure where the messages are not about the toy world."""
        from prefkit.toy.critic import rationale
        from prefkit.toy.judge import is_for_judge, verdict

        refuse_beams(model, requests)

        # A loop over requests: each is parsed and graded on its own.
        for position, request in enumerate(requests):
            try:
                if request.messages and is_for_judge(asked := request.messages[-1].content):
                    text = verdict(asked)
                else:
                    text = rationale([(message.role, message.content) for message in request.messages])
            except PrefkitError as error:
                yield position, Failure(error.what)
                continue
            read = sum(len(message.content.split()) for message in request.messages)
            yield position, Completion(text, len(text.split()) + 1, "stop", read)

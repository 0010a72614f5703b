"""An OpenAI-compatible server of the toy world, in a process of its own: `python toy_server.py PORT LOG [--dies-after N]`.

`policy` is the toy policy, run by the transformers engine; `judge` weighs two answers by the exact reward of the toy
world. Prints its port. Writes a line to LOG for every answer, once it was sent. With `--dies-after`, the process ends
with no warning when it has sent so many.
"""

import argparse
import json
import os
import re
import sys
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

from prefkit.engines import Completion, Message, Model, Request
from prefkit.engines.transformers_engine import TransformersEngine
from prefkit.toy import gold

FENCED = re.compile(r"<text (\w+)>\n(.*?)\n</text \1>", re.DOTALL)
POLICY = Model(id="prefkit/toy-policy")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine, lock, sent = TransformersEngine("cpu", exact=False), Lock(), 0
    log, dies_after = Path(), 0

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = json.loads(body)
        messages = tuple(Message(turn["role"], turn["content"]) for turn in asked["messages"])
        with self.lock:  # one answer at a time, so that dying leaves the others unanswered
            said = (
                judged(messages[-1].content) if asked["model"] == "judge" else self.written(messages, asked)
            )
            choice = {"index": 0, "message": {"role": "assistant", "content": said.text}}
            usage = {"prompt_tokens": said.prompt_tokens, "completion_tokens": said.tokens}
            answer = {
                "model": asked["model"],
                "choices": [choice | {"finish_reason": said.finish}],
                "usage": usage,
            }
            data = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()
            Handler.sent += 1
            with self.log.open("a") as file:
                file.write(f"{asked['model']} {sha256(body).hexdigest()}\n")
            if Handler.sent == self.dies_after:
                os._exit(1)

    def written(self, messages, asked) -> Completion:
        request = Request(
            messages, asked["max_tokens"], asked["temperature"], asked["top_p"], 0, asked["seed"]
        )
        ((_, said),) = self.engine.generate(POLICY, [request])
        return said

    def log_message(self, *_):
        pass


def judged(shown: str) -> Completion:
    prompt, one, other = [text for _, text in FENCED.findall(shown)][:3]
    gap = gold(prompt, one).reward - gold(prompt, other).reward
    letter = "A" if gap > 0 else "B" if gap < 0 else "C"
    return Completion(f"One is {abs(gap):.2f} better.\n\n[[{letter}]]", 9, "stop", len(shown.split()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("log", type=Path)
    parser.add_argument("--dies-after", type=int, default=0)
    given = parser.parse_args()
    Handler.log, Handler.dies_after = given.log, given.dies_after
    server = ThreadingHTTPServer(("127.0.0.1", given.port), Handler)
    print(server.server_port, flush=True)
    sys.exit(server.serve_forever())

"""A completions server over a tiny model, in a thread: it returns log-probabilities of prompts, as vLLM does.

Below ``/plain`` it returns none; below ``/busy`` every second answer is 503.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def complete(coder, network, body, mode):
    prompt = body.get("prompt")
    if prompt is None:
        prompt = "".join(f"[{m['role']}]{m['content']}" for m in body["messages"])
    tokens = [coder.bos_token_id, *coder(prompt, add_special_tokens=False)["input_ids"]]
    if len(tokens) + body["max_tokens"] > 64:
        raise ValueError(f"prompt of {len(tokens)} tokens is over the context of 64")
    start = len(tokens)
    generator = torch.Generator().manual_seed(body.get("seed", 0))
    with torch.inference_mode():
        for _ in range(body["max_tokens"]):
            logits = network(input_ids=torch.tensor([tokens])).logits[0, -1]
            if body["temperature"] == 0:
                tokens.append(int(logits.argmax()))
            else:
                chances = (logits / body["temperature"]).softmax(0)
                tokens.append(int(torch.multinomial(chances, 1, generator=generator)))
        logits = network(input_ids=torch.tensor([tokens])).logits[0].double().log_softmax(1)
    text = coder.decode(tokens[start:])
    choice = {"text": text, "message": {"role": "assistant", "content": text}}
    if body.get("echo") and mode != "plain":
        spelled = [coder.decode([token]) for token in tokens[1:]]
        offsets = [sum(map(len, spelled[:i])) for i in range(len(spelled))]
        values = [float(logits[i, token]) for i, token in enumerate(tokens[1:])]
        choice["logprobs"] = {"tokens": spelled, "token_logprobs": values, "text_offset": offsets}
    return {"choices": [choice], "echoed": {k: v for k, v in body.items() if k != "prompt"}}


@contextmanager
def completions_server(folder: Path) -> Iterator[str]:
    """Its address, until the end of the block."""
    coder, network = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    requests = [0]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            mode = self.path.split("/")[1]
            requests[0] += mode == "busy"
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                if mode == "busy" and requests[0] % 2:
                    status, answer = 503, {"error": "busy"}
                elif self.headers.get("Authorization") != "Bearer secret":
                    status, answer = 401, {"error": "no key"}
                else:
                    status, answer = 200, complete(coder, network, body, mode)
            except ValueError as error:
                status, answer = 400, {"error": str(error)}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()

"""A completions server over a tiny model, as a process of its own: ``python completions_server.py FOLDER``.

Prints its port. Below ``/plain`` it returns no log-probabilities; below ``/busy`` every second answer is 503.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

FOLDER = sys.argv[1]
torch.set_num_threads(1)
CODER, NETWORK = AutoTokenizer.from_pretrained(FOLDER), AutoModelForCausalLM.from_pretrained(FOLDER).eval()
REQUESTS = [0]


def complete(body, mode):
    prompt = body.get("prompt")
    if prompt is None:
        prompt = "".join(f"[{m['role']}]{m['content']}" for m in body["messages"])
    tokens = [CODER.bos_token_id, *CODER(prompt, add_special_tokens=False)["input_ids"]]
    if len(tokens) + body["max_tokens"] > 64:
        raise ValueError(f"prompt of {len(tokens)} tokens is over the context of 64")
    start = len(tokens)
    generator = torch.Generator().manual_seed(body.get("seed", 0))
    with torch.inference_mode():
        for _ in range(body["max_tokens"]):
            logits = NETWORK(input_ids=torch.tensor([tokens])).logits[0, -1]
            if body["temperature"] == 0:
                tokens.append(int(logits.argmax()))
            else:
                chances = (logits / body["temperature"]).softmax(0)
                tokens.append(int(torch.multinomial(chances, 1, generator=generator)))
        logits = NETWORK(input_ids=torch.tensor([tokens])).logits[0].double().log_softmax(1)
    text = CODER.decode(tokens[start:])
    choice = {"text": text, "message": {"role": "assistant", "content": text}}
    if body.get("echo") and mode != "plain":
        spelled = [CODER.decode([token]) for token in tokens[1:]]
        offsets = [sum(map(len, spelled[:i])) for i in range(len(spelled))]
        values = [float(logits[i, token]) for i, token in enumerate(tokens[1:])]
        choice["logprobs"] = {"tokens": spelled, "token_logprobs": values, "text_offset": offsets}
    return {"choices": [choice], "echoed": {k: v for k, v in body.items() if k != "prompt"}}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        mode = self.path.split("/")[1]
        REQUESTS[0] += mode == "busy"
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            if mode == "busy" and REQUESTS[0] % 2:
                status, answer = 503, {"error": "busy"}
            elif self.headers.get("Authorization") != "Bearer secret":
                status, answer = 401, {"error": "no key"}
            else:
                status, answer = 200, complete(body, mode)
        except ValueError as error:
            status, answer = 400, {"error": str(error)}
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
sys.stdout.write(f"{server.server_port}\n")
sys.stdout.flush()
server.serve_forever()

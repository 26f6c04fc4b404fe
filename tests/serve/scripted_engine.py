"""A program in vLLM's place, for tests of supervision: the same arguments, endpoints and refusals, started in no time.

    scripted_engine.py serve BASE --host H --port P ...        as vLLM is started

SCRIPTED_ENGINE names a mode: serve (default), fail (ends with an error), hang (never healthy), alone (without helper). It
starts a helper process that lives on when its parent is killed, as vLLM's do. An adapter's answers come from `answers.json`
in its folder, by the last user message.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MODE = os.environ.get("SCRIPTED_ENGINE", "serve")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb")
    parser.add_argument("base")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    return parser.parse_known_args()[0]


OPTIONS = parse()
ADAPTERS: dict[str, str] = {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status: int, body: Any) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status: int, message: str) -> None:
        self.reply(status, {"error": {"message": message, "type": "InvalidUserInput", "param": None, "code": status}})

    def do_GET(self) -> None:
        if self.path == "/health":
            self.reply(503 if MODE == "hang" else 200, "")
        elif self.path == "/v1/models":
            own = {"id": "base", "root": OPTIONS.base, "parent": None}
            self.reply(200, {"data": [own, *({"id": name, "root": root, "parent": "base"} for name, root in ADAPTERS.items())]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/load_lora_adapter":
            self.load(body["lora_name"], body["lora_path"])
        elif self.path == "/v1/unload_lora_adapter":
            if ADAPTERS.pop(body["lora_name"], None) is None:
                self.refuse(404, f"The lora adapter '{body['lora_name']}' cannot be found.")
            else:
                self.reply(200, "Success")
        elif body["model"] != "base" and body["model"] not in ADAPTERS:
            self.refuse(404, f"The model `{body['model']}` does not exist.")
        else:
            answers = Path(ADAPTERS.get(body["model"], "/nowhere")) / "answers.json"
            known = json.loads(answers.read_text("utf-8")) if answers.exists() else {}
            message = {"role": "assistant", "content": known.get(body["messages"][-1]["content"], "?")}
            usage = {"prompt_tokens": 3, "completion_tokens": 1}
            self.reply(200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})

    def load(self, name: str, path: str) -> None:
        if name in ADAPTERS:
            self.refuse(400, f"The lora adapter '{name}' has already been loaded.")
        elif "broken" in path:
            self.refuse(500, "unsupported LoRA weight")
        else:
            ADAPTERS[name] = path
            self.reply(200, f"Success: LoRA adapter '{name}' added successfully.")

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


if __name__ == "__main__":
    print(f"scripted engine, lora updating {os.environ.get('VLLM_ALLOW_RUNTIME_LORA_UPDATING')}", flush=True)
    if MODE == "fail":
        print("ValueError: the base model speaks in riddles: 42", flush=True)
        print("Traceback\n" * 30 + "RuntimeError: Engine core initialization failed. See root cause above.", flush=True)
        sys.exit(3)
    if MODE != "alone":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    ThreadingHTTPServer((OPTIONS.host, OPTIONS.port), Handler).serve_forever()

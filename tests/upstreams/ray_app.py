"""A Ray Serve application of two replicas that speaks OpenAI's calls: one way to outgrow one server.

Each replica has the model of its own, by llama-cpp-python; Ray spreads requests over them. `serve run ray_app:app` with
MODEL=/path/to.gguf serves it at http://127.0.0.1:8000/v1.
"""

import asyncio
import json
import os

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from llama_cpp import Llama
from ray import serve

api = FastAPI()
NAME = "cluster-model"


@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 0.5}, max_ongoing_requests=4)
@serve.ingress(api)
class OpenAi:
    def __init__(self):
        self.model = Llama(os.environ["MODEL"], n_ctx=1024, n_threads=1, verbose=False)
        self.turn = asyncio.Lock()
        self.requests = 0

    @api.get("/v1/models")
    async def models(self):
        return {"object": "list", "data": [{"id": NAME, "object": "model", "created": 0, "owned_by": "cluster"}]}

    @api.get("/replica")
    async def replica(self):
        return {"replica": serve.get_replica_context().replica_id.unique_id, "requests": self.requests}

    @api.post("/v1/completions")
    async def completions(self, request: Request):
        body = await request.json()
        return await self.answer(body, self.model.create_completion, {"prompt": body["prompt"]})

    @api.post("/v1/chat/completions")
    async def chat(self, request: Request):
        body = await request.json()
        return await self.answer(body, self.model.create_chat_completion, {"messages": body["messages"]})

    async def answer(self, body, create, given):
        self.requests += 1
        names = ("max_tokens", "temperature", "top_p", "seed", "stop")
        given |= {name: body[name] for name in names if body.get(name) is not None}
        if not body.get("stream"):
            async with self.turn:
                return JSONResponse(await asyncio.to_thread(create, **given))
        return StreamingResponse(self.events(body, create, given), media_type="text/event-stream")

    async def events(self, body, create, given):
        async with self.turn:
            tokens, last = 0, None
            chunks = iter(await asyncio.to_thread(create, stream=True, **given))
            while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                tokens, last = tokens + 1, chunk
                yield f"data: {json.dumps(chunk)}\n\n"
            if (body.get("stream_options") or {}).get("include_usage") and last:
                usage = {"prompt_tokens": 0, "completion_tokens": tokens, "total_tokens": tokens}
                yield f"data: {json.dumps({**last, 'choices': [], 'usage': usage})}\n\n"
            yield "data: [DONE]\n\n"


app = OpenAi.bind()

"""OpenAI's Python client, and a service behind the appliance that calls a tool: BASE_URL and API_KEY come from the environment."""

import json
import os

from openai import OpenAI

client = OpenAI(base_url=os.environ["BASE_URL"] + "/v1", api_key=os.environ["API_KEY"], max_retries=0)
ADD = {"type": "function", "function": {"name": "add", "description": "adds", "parameters": {"type": "object", "properties": {}}}}
ASK = {"model": "stub-model", "messages": [{"role": "user", "content": "2 + 3?"}], "tools": [ADD], "tool_choice": "required"}


def check(choice):
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls" and call.type == "function" and call.id, choice
    assert call.function.name == "add" and json.loads(call.function.arguments) == {"a": 2, "b": 3}, call


check(client.chat.completions.create(**ASK).choices[0])
with client.chat.completions.stream(**ASK) as stream:
    for _ in stream:
        pass
    check(stream.get_final_completion().choices[0])
print("openai tools ok")

"""Anthropic's Python client, and a service behind the appliance that calls a tool: BASE_URL and API_KEY come from the environment."""

import os

import anthropic

client = anthropic.Anthropic(base_url=os.environ["BASE_URL"], api_key=os.environ["API_KEY"], max_retries=0)
ADD = {"name": "add", "description": "adds", "input_schema": {"type": "object", "properties": {}}}
ASK = {"model": "stub-model", "max_tokens": 64, "messages": [{"role": "user", "content": "2 + 3?"}], "tools": [ADD], "tool_choice": {"type": "any"}}


def check(message):
    (call,) = [block for block in message.content if block.type == "tool_use"]
    assert message.stop_reason == "tool_use" and call.id, message
    assert call.name == "add" and call.input == {"a": 2, "b": 3}, call


check(client.messages.create(**ASK))
with client.messages.stream(**ASK) as stream:
    for _ in stream:
        pass
    check(stream.get_final_message())
print("anthropic tools ok")

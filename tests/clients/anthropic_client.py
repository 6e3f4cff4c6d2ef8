"""Anthropic's Python client against the appliance: BASE_URL, API_KEY and MODEL come from the environment."""

import os

import anthropic

client = anthropic.Anthropic(base_url=os.environ["BASE_URL"], api_key=os.environ["API_KEY"], max_retries=0)
MODEL = os.environ["MODEL"]
ASK = [{"role": "user", "content": "def add(a, b):"}]

whole = client.messages.create(model=MODEL, max_tokens=8, messages=ASK, system="Be brief.", extra_body={"temperature": 0})
assert whole.type == "message" and whole.stop_reason in ("end_turn", "max_tokens"), whole
assert whole.usage.output_tokens <= 8
with client.messages.stream(model=MODEL, max_tokens=8, messages=ASK, system="Be brief.", extra_body={"temperature": 0}) as stream:
    text = "".join(stream.text_stream)
    final = stream.get_final_message()
assert text == whole.content[0].text == final.content[0].text, (text, whole)
tools = [{"name": "add", "description": "adds", "input_schema": {"type": "object", "properties": {}}}]
answer = client.messages.create(model=MODEL, max_tokens=8, messages=ASK, tools=tools)
assert answer.role == "assistant"
try:
    client.messages.create(model="no-such-model", max_tokens=8, messages=ASK)
    raise AssertionError("an unknown model was answered")
except anthropic.NotFoundError:
    pass
try:
    anthropic.Anthropic(base_url=os.environ["BASE_URL"], api_key="wrong", max_retries=0).models.list()
    raise AssertionError("a wrong key was let in")
except anthropic.AuthenticationError as error:
    assert error.body["error"]["type"] == "authentication_error", error
print("anthropic", anthropic.__version__, "ok")

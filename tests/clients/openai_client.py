"""OpenAI's Python client against the appliance: BASE_URL, API_KEY and MODEL come from the environment."""

import asyncio
import os

import openai
from openai import AsyncOpenAI, OpenAI

client = OpenAI(base_url=os.environ["BASE_URL"] + "/v1", api_key=os.environ["API_KEY"], max_retries=0)
MODEL = os.environ["MODEL"]
ASK = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "def add(a, b):"}]}]
ADD = {"type": "function", "function": {"name": "add", "description": "adds", "parameters": {"type": "object", "properties": {}}}}


def chat_whole_and_streamed():
    whole = client.chat.completions.create(model=MODEL, messages=ASK, max_completion_tokens=12, temperature=0)
    choice = whole.choices[0]
    assert choice.message.role == "assistant" and choice.message.content, whole
    assert choice.finish_reason in ("stop", "length"), choice
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    stream = client.chat.completions.create(
        model=MODEL, messages=ASK, max_tokens=12, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == choice.message.content, (text, choice.message.content)
    assert len({c.id for c in chunks}) == 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices][:-1] == [None] * (len(chunks) - 2)
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def several_in_one_stream():
    several = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=4, n=2, stream=True)
    ends = {c.choices[0].index: c.choices[0].finish_reason for c in several}
    assert set(ends) == {0, 1} and all(ends.values()), ends


def helper_accumulates_a_stream():
    with client.chat.completions.stream(model=MODEL, messages=ASK, max_tokens=8) as stream:
        for _ in stream:
            pass
        try:
            final = stream.get_final_completion()
        except openai.LengthFinishReasonError as error:  # its word for an answer of max_tokens
            final = error.completion
    assert final.choices[0].message.role == "assistant"
    with_tools = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=8, tools=[ADD])
    assert with_tools.choices[0].finish_reason in ("stop", "length", "tool_calls")


def structured_output():
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}
    answer = client.chat.completions.create(
        model=MODEL,
        messages=ASK,
        max_tokens=64,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}},
    )
    import json

    assert isinstance(json.loads(answer.choices[0].message.content)["ok"], bool)


def completions_models_and_errors():
    assert client.completions.create(model=MODEL, prompt="x =", max_tokens=4).choices[0].text
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL
    try:
        client.chat.completions.create(model="no-such-model", messages=ASK)
        raise AssertionError("an unknown model was answered")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found", error
    try:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x " * 5000}])
        raise AssertionError("a prompt over the context was answered")
    except openai.BadRequestError as error:
        assert error.code == "context_length_exceeded", error
    try:
        OpenAI(base_url=client.base_url, api_key="wrong", max_retries=0).models.list()
        raise AssertionError("a wrong key was let in")
    except openai.AuthenticationError as error:
        assert error.code == "invalid_api_key" and "key" in error.message, error


def embeddings():
    answer = client.embeddings.create(model=MODEL, input=["def add(a, b):", "x"])
    first, second = (item.embedding for item in answer.data)
    assert len(first) == len(second) > 0 and isinstance(first[0], float) and first != second
    assert answer.usage.total_tokens > 2, answer.usage


async def one_that_leaves():
    other = AsyncOpenAI(base_url=client.base_url, api_key=client.api_key, max_retries=0)
    stream = await other.chat.completions.create(model=MODEL, messages=ASK, max_tokens=900, stream=True)
    async for _ in stream:
        break
    await stream.close()


chat_whole_and_streamed()
several_in_one_stream()
helper_accumulates_a_stream()
structured_output()
embeddings()
completions_models_and_errors()
asyncio.run(one_that_leaves())
print("openai", openai.__version__, "ok")

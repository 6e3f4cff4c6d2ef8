// OpenAI's client for Node against the appliance: BASE_URL, API_KEY and MODEL come from the environment.
import assert from "node:assert/strict";
import OpenAI from "openai";

const { BASE_URL, API_KEY, MODEL } = process.env;
const client = new OpenAI({ baseURL: `${BASE_URL}/v1`, apiKey: API_KEY, maxRetries: 0 });
const messages = [{ role: "user", content: "def add(a, b):" }];
const ask = { model: MODEL, messages, max_tokens: 12, temperature: 0 };

const whole = await client.chat.completions.create(ask);
assert.ok(whole.choices[0].message.content);
const stream = await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } });
let text = "";
let usage;
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(text, whole.choices[0].message.content);
assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
const helped = await client.chat.completions.stream(ask).finalChatCompletion();
assert.equal(helped.choices[0].message.content, text);
const schema = { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"], additionalProperties: false };
const format = { type: "json_schema", json_schema: { name: "x", schema, strict: true } };
const shaped = await client.chat.completions.create({ ...ask, max_tokens: 64, response_format: format });
assert.equal(typeof JSON.parse(shaped.choices[0].message.content).ok, "boolean");
const embedded = await client.embeddings.create({ model: MODEL, input: ["def add(a, b):", "x"] });
assert.equal(embedded.data.length, 2);
assert.equal(typeof embedded.data[0].embedding[0], "number");
const models = [];
for await (const model of client.models.list()) models.push(model.id);
assert.ok(models.includes(MODEL));
await assert.rejects(client.chat.completions.create({ ...ask, model: "no-such-model" }), OpenAI.NotFoundError);
console.log("openai for Node ok");

// OpenAI's client for Node, and a service behind the appliance that calls a tool: BASE_URL and API_KEY come from the environment.
import assert from "node:assert/strict";
import OpenAI from "openai";

const { BASE_URL, API_KEY } = process.env;
const client = new OpenAI({ baseURL: `${BASE_URL}/v1`, apiKey: API_KEY, maxRetries: 0 });
const add = { type: "function", function: { name: "add", description: "adds", parameters: { type: "object", properties: {} } } };
const messages = [{ role: "user", content: "2 + 3?" }];
const ask = { model: "stub-model", messages, tools: [add], tool_choice: "required" };

function check(choice) {
  assert.equal(choice.finish_reason, "tool_calls");
  const [call] = choice.message.tool_calls;
  assert.ok(call.id);
  assert.equal(call.function.name, "add");
  assert.deepEqual(JSON.parse(call.function.arguments), { a: 2, b: 3 });
}

check((await client.chat.completions.create(ask)).choices[0]);
check((await client.chat.completions.stream(ask).finalChatCompletion()).choices[0]);
console.log("openai for Node tools ok");

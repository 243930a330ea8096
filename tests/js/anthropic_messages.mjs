// @anthropic-ai/sdk against shimmy's /v1/messages; SHIMMY_URL is the server.
import assert from "node:assert/strict";
import test from "node:test";
import Anthropic from "@anthropic-ai/sdk";

const model = "shimmy-demo";
const client = new Anthropic({ baseURL: process.env.SHIMMY_URL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is shimmy?" }];
const ask = { model, max_tokens: 100, messages, temperature: 0 };
const weather = {
  name: "get_weather",
  description: "Get the current weather in a city",
  input_schema: {
    type: "object",
    properties: { city: { type: "string", description: "The city" } },
    required: ["city"],
  },
};
const forecast = [{ role: "user", content: "What is the weather in Paris?" }];

test("a message is sensible and counted", async () => {
  const message = await client.messages.create(ask);
  assert.match(message.content[0].text, /inference server/);
  assert.equal(message.stop_reason, "end_turn");
  assert.ok(message.usage.output_tokens > 0);
  assert.match(message._request_id, /^req_/);
});

test("J20, J23: the stream helper puts the message together", async () => {
  const whole = await client.messages.create(ask);
  const stream = client.messages.stream(ask);
  let text = "";
  stream.on("text", (delta) => (text += delta));
  const final = await stream.finalMessage();
  assert.deepEqual(final.content[0].text, whole.content[0].text);
  assert.equal(text, whole.content[0].text);
  assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
});

for (const tool_choice of [{ type: "auto" }, { type: "any" }, { type: "tool", name: "get_weather" }]) {
  test(`a tool is called when the choice is ${tool_choice.type}`, async () => {
    const stream = client.messages.stream({ ...ask, messages: forecast, tools: [weather], tool_choice });
    const message = await stream.finalMessage();
    const use = message.content.find((block) => block.type === "tool_use");
    assert.deepEqual([use.name, use.input], ["get_weather", { city: "Paris" }]);
    assert.equal(message.stop_reason, "tool_use");
  });
}

test("a tool's result is used", async () => {
  const first = await client.messages.create({ ...ask, messages: forecast, tools: [weather] });
  const use = first.content.find((block) => block.type === "tool_use");
  const result = { type: "tool_result", tool_use_id: use.id, content: '{"weather": "sunny"}' };
  const second = await client.messages.create({
    ...ask,
    messages: [
      ...forecast,
      { role: "assistant", content: first.content },
      { role: "user", content: [result] },
    ],
    tools: [weather],
  });
  assert.equal(second.stop_reason, "end_turn");
  assert.ok(second.content[0].text);
});

test("J22: a stop sequence is told", async () => {
  const message = await client.messages.create({ ...ask, stop_sequences: ["server"] });
  assert.deepEqual([message.stop_reason, message.stop_sequence], ["stop_sequence", "server"]);
});

test("counting tokens agrees with what a message costs", async () => {
  const counted = await client.messages.countTokens({ model, messages });
  const { usage } = await client.messages.create(ask);
  assert.equal(counted.input_tokens, usage.input_tokens + usage.cache_read_input_tokens);
});

test("errors have their class, type and message", async () => {
  await assert.rejects(client.messages.create({ ...ask, model: "claude" }), (error) => {
    assert.ok(error instanceof Anthropic.NotFoundError);
    assert.equal(error.error.error.type, "not_found_error");
    assert.match(error.message, /shimmy-demo/);
    return true;
  });
  const image = { type: "image", source: { type: "base64", media_type: "image/png", data: "" } };
  await assert.rejects(
    client.messages.create({ ...ask, messages: [{ role: "user", content: [image] }] }),
    Anthropic.BadRequestError,
  );
});

test("leaving a stream leaves the server well", async () => {
  const stream = client.messages.stream(ask);
  for await (const event of stream) {
    if (event.type === "content_block_delta") break;
  }
  assert.match((await client.messages.create(ask)).content[0].text, /inference server/);
});

// openai-js against shimmy's /v1/responses; SHIMMY_URL is the server.
import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";

const model = "shimmy-demo";
const client = new OpenAI({ baseURL: process.env.SHIMMY_URL + "/v1", apiKey: "none", maxRetries: 0 });
const ask = { model, input: "What is shimmy?", temperature: 0 };
const weather = {
  type: "function",
  name: "get_weather",
  description: "Get the current weather in a city",
  strict: true,
  parameters: {
    type: "object",
    properties: { city: { type: "string", description: "The city" } },
    required: ["city"],
    additionalProperties: false,
  },
};

test("a response is sensible and counted", async () => {
  const response = await client.responses.create(ask);
  assert.match(response.output_text, /inference server/);
  assert.equal(response.status, "completed");
  assert.equal(response.usage.total_tokens, response.usage.input_tokens + response.usage.output_tokens);
});

test("J30, J31: the stream helper puts the response together", async () => {
  const whole = await client.responses.create(ask);
  const stream = client.responses.stream(ask);
  let text = "";
  stream.on("response.output_text.delta", (event) => (text += event.delta));
  const final = await stream.finalResponse();
  assert.equal(final.output_text, whole.output_text);
  assert.equal(text, whole.output_text);
});

test("a raw stream is numbered", async () => {
  const numbers = [];
  for await (const event of await client.responses.create({ ...ask, stream: true })) {
    numbers.push(event.sequence_number);
  }
  assert.deepEqual(numbers, [...numbers.keys()]);
});

test("a tool is called and its result is used", async () => {
  const first = await client.responses.create({
    model,
    input: "What is the weather in Paris?",
    tools: [weather],
    temperature: 0,
  });
  const call = first.output.find((item) => item.type === "function_call");
  assert.deepEqual([call.name, JSON.parse(call.arguments)], ["get_weather", { city: "Paris" }]);
  const second = await client.responses.create({
    model,
    previous_response_id: first.id,
    input: [{ type: "function_call_output", call_id: call.call_id, output: '{"weather": "sunny"}' }],
    tools: [weather],
    temperature: 0,
  });
  assert.ok(second.output_text);
});

test("a schema constrains the answer", async () => {
  const response = await client.responses.parse({
    ...ask,
    text: {
      format: {
        type: "json_schema",
        name: "answer",
        strict: true,
        schema: {
          type: "object",
          properties: { sure: { type: "boolean" } },
          required: ["sure"],
          additionalProperties: false,
        },
      },
    },
  });
  assert.equal(typeof JSON.parse(response.output_text).sure, "boolean");
});

test("a response is looked up, listed and deleted", async () => {
  const { id } = await client.responses.create(ask);
  assert.equal((await client.responses.retrieve(id)).id, id);
  const items = await client.responses.inputItems.list(id);
  assert.equal(items.data[0].content[0].text, ask.input);
  await client.responses.delete(id);
  await assert.rejects(client.responses.retrieve(id), OpenAI.NotFoundError);
});

test("a cut answer is incomplete", async () => {
  const response = await client.responses.create({ ...ask, max_output_tokens: 3 });
  assert.equal(response.status, "incomplete");
  assert.equal(response.incomplete_details.reason, "max_output_tokens");
});

test("a bad field is a bad request that names it", async () => {
  await assert.rejects(client.responses.create({ ...ask, truncation: "auto" }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, "truncation");
    return true;
  });
});

test("leaving a stream leaves the server well", async () => {
  for await (const event of await client.responses.create({ ...ask, stream: true })) {
    if (event.type === "response.output_text.delta") break;
  }
  assert.match((await client.responses.create(ask)).output_text, /inference server/);
});

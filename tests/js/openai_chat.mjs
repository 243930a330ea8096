// openai-js against shimmy's chat, completions, embeddings; SHIMMY_URL is the server.
import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const model = "shimmy-demo";
const baseURL = process.env.SHIMMY_URL + "/v1";
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is shimmy?" }];
const parameters = {
  type: "object",
  properties: { city: { type: "string", description: "The city" } },
  required: ["city"],
};
const weather = {
  type: "function",
  function: { name: "get_weather", description: "Get the current weather in a city", parameters },
};

test("a chat completion is sensible and counted", async () => {
  const answer = await client.chat.completions.create({ model, messages, temperature: 0 });
  assert.match(answer.choices[0].message.content, /inference server/);
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
});

test("J25, J26: the stream helper finds a role and a reason for each choice", async () => {
  const whole = await client.chat.completions.create({ model, messages, temperature: 0 });
  const stream = client.chat.completions.stream({ model, messages, temperature: 0 });
  let text = "";
  stream.on("content", (delta) => (text += delta));
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].message.content, whole.choices[0].message.content);
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(final.choices[0].finish_reason, "stop");
});

test("C14: several choices are put together", async () => {
  const stream = client.chat.completions.stream({ model, messages, n: 3, max_tokens: 8 });
  const final = await stream.finalChatCompletion();
  assert.deepEqual(final.choices.map((choice) => choice.index), [0, 1, 2]);
  for (const choice of final.choices) assert.ok(choice.message.content);
});

test("C3: usage comes with the stream", async () => {
  const options = { include_usage: true };
  const stream = client.chat.completions.stream({ model, messages, stream_options: options });
  const final = await stream.finalChatCompletion();
  assert.ok(final.usage.completion_tokens > 0);
});

test("C6 to C8: a streamed tool call comes together", async () => {
  const stream = client.chat.completions.stream({
    model,
    messages: [{ role: "user", content: "What is the weather in Paris?" }],
    tools: [weather],
    temperature: 0,
  });
  const final = await stream.finalChatCompletion();
  const [call] = final.choices[0].message.tool_calls;
  assert.equal(call.function.name, "get_weather");
  assert.deepEqual(JSON.parse(call.function.arguments), { city: "Paris" });
  assert.equal(final.choices[0].finish_reason, "tool_calls");
});

test("the tool runner calls the function and goes on", async () => {
  const asked = [];
  const runner = client.chat.completions.runTools({
    model,
    messages: [{ role: "user", content: "What is the weather in Paris?" }],
    tools: [
      {
        type: "function",
        function: {
          ...weather.function,
          parse: JSON.parse,
          function: ({ city }) => {
            asked.push(city);
            return "sunny";
          },
        },
      },
    ],
    temperature: 0,
  }, { maxChatCompletions: 3 });
  await runner.done();
  assert.equal(asked[0], "Paris");
});

test("a named tool is forced", async () => {
  const answer = await client.chat.completions.create({
    model,
    messages,
    tools: [weather],
    tool_choice: { type: "function", function: { name: "get_weather" } },
    max_tokens: 64,
  });
  assert.equal(answer.choices[0].message.tool_calls[0].function.name, "get_weather");
});

test("parse returns the object that was asked for", async () => {
  const answer = await client.chat.completions.parse({
    model,
    messages,
    response_format: zodResponseFormat(z.object({ yes: z.boolean() }), "answer"),
    temperature: 0,
  });
  assert.equal(typeof answer.choices[0].message.parsed.yes, "boolean");
});

test("log-probabilities come with the stream", async () => {
  const stream = client.chat.completions.stream({
    model,
    messages,
    temperature: 0,
    max_tokens: 8,
    logprobs: true,
    top_logprobs: 2,
  });
  const choice = (await stream.finalChatCompletion()).choices[0];
  const tokens = choice.logprobs.content.map((entry) => entry.token);
  assert.equal(tokens.join(""), choice.message.content);
});

test("a text completion echoes and scores its prompt", async () => {
  const answer = await client.completions.create({
    model,
    prompt: "Once upon a time",
    max_tokens: 1,
    echo: true,
    logprobs: 1,
  });
  const { logprobs, text } = answer.choices[0];
  assert.ok(text.startsWith("Once upon a time"));
  assert.equal(logprobs.tokens.length, logprobs.token_logprobs.length);
  assert.equal(logprobs.token_logprobs[0], null);
});

test("embeddings come as floats", async () => {
  const answer = await client.embeddings.create({ model, input: ["a cat", "a dog"] });
  const length = Math.hypot(...answer.data[1].embedding);
  assert.ok(Math.abs(length - 1) < 1e-3);
});

test("a fault of the client is sent once, and says which field", async () => {
  let n = 0;
  const counting = new OpenAI({
    baseURL,
    apiKey: "none",
    maxRetries: 2,
    fetch: (...args) => (n++, fetch(...args)),
  });
  await assert.rejects(
    counting.chat.completions.create({ model, messages, temperature: -1 }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature",
  );
  await assert.rejects(
    counting.chat.completions.create({ model: "gpt-9", messages }),
    (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found",
  );
  assert.equal(n, 2);
});

test("leaving a stream frees the server for others", async () => {
  const stream = await client.completions.create({
    model,
    prompt: "Once",
    max_tokens: 1000,
    stream: true,
    ignore_eos: true,
  });
  for await (const _ of stream) break;
  stream.controller.abort();
  const answer = await client.completions.create({ model, prompt: "Once", max_tokens: 1 });
  assert.ok(answer.choices[0].finish_reason);
});

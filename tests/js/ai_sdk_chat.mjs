// Vercel's AI SDK through its providers for OpenAI's chat; SHIMMY_URL is the server.
import assert from "node:assert/strict";
import test from "node:test";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const baseURL = process.env.SHIMMY_URL + "/v1";
const compatible = createOpenAICompatible({
  name: "shimmy",
  baseURL,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const models = {
  compatible: compatible.chatModel("shimmy-demo"),
  openai: createOpenAI({ baseURL, apiKey: "none" }).chat("shimmy-demo"),
};
const prompt = "What is shimmy?";
const common = { temperature: 0, maxRetries: 0 };
const weather = tool({
  description: "Get the current weather in a city",
  inputSchema: z.object({ city: z.string().describe("The city") }),
  execute: async ({ city }) => `sunny in ${city}`,
});

for (const [name, model] of Object.entries(models)) {
  test(`${name}: a stream says what one piece says, with usage`, async () => {
    const whole = await generateText({ model, prompt, ...common });
    const stream = streamText({ model, prompt, ...common });
    let text = "";
    for await (const delta of stream.textStream) text += delta;
    assert.equal(text, whole.text);
    assert.match(text, /inference server/);
    assert.equal(await stream.finishReason, "stop");
    assert.ok((await stream.usage).outputTokens > 0);
  });

  test(`J5, ${name}: a loop over tools goes on until there is an answer`, async () => {
    const done = await generateText({
      model,
      prompt: "What is the weather in Paris?",
      tools: { get_weather: weather },
      stopWhen: stepCountIs(3),
      ...common,
    });
    const [first] = done.steps;
    assert.equal(first.finishReason, "tool-calls");
    assert.deepEqual(first.toolCalls[0].input, { city: "Paris" });
    assert.ok(done.steps.length > 1);
  });

  test(`${name}: a forced tool is called, streamed`, async () => {
    const stream = streamText({
      model,
      prompt,
      tools: { get_weather: weather },
      toolChoice: { type: "tool", toolName: "get_weather" },
      maxOutputTokens: 64,
      ...common,
    });
    await stream.consumeStream();
    const [call] = await stream.toolCalls;
    assert.equal(call.toolName, "get_weather");
    assert.equal(typeof call.input.city, "string");
  });

  test(`${name}: an object of a schema`, async () => {
    const schema = z.object({ yes: z.boolean() });
    const { object } = await generateObject({ model, prompt, schema, ...common });
    assert.equal(typeof object.yes, "boolean");
  });

  test(`${name}: an error has the server's message`, async () => {
    await assert.rejects(
      generateText({ model, prompt: "word ".repeat(9000), ...common }),
      /the context holds/,
    );
  });
}

test("embeddings", async () => {
  const model = compatible.textEmbeddingModel("shimmy-demo");
  const { embeddings, usage } = await embedMany({ model, values: ["a cat", "a dog"] });
  assert.equal(embeddings.length, 2);
  assert.ok(usage.tokens > 0);
});

// Vercel's AI SDK through /v1/responses and /v1/messages; SHIMMY_URL is the server.
import assert from "node:assert/strict";
import test from "node:test";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { APICallError, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const url = process.env.SHIMMY_URL + "/v1";
const providers = {
  responses: createOpenAI({ baseURL: url, apiKey: "none" }).responses,
  messages: createAnthropic({ baseURL: url, apiKey: "none" }),
};
const ask = { prompt: "What is shimmy?", temperature: 0, maxRetries: 0, maxOutputTokens: 200 };
const get_weather = tool({
  description: "Get the current weather in a city",
  inputSchema: z.object({ city: z.string().describe("The city") }),
  execute: async ({ city }) => ({ city, weather: "sunny" }),
});

for (const [name, provider] of Object.entries(providers)) {
  const model = provider("shimmy-demo");

  test(`${name}: text, streamed and whole`, async () => {
    const whole = await generateText({ ...ask, model });
    assert.match(whole.text, /inference server/);
    assert.equal(whole.finishReason, "stop");
    const streamed = streamText({ ...ask, model });
    assert.equal(await streamed.text, whole.text);
    assert.equal(await streamed.finishReason, "stop");
    assert.equal((await streamed.usage).outputTokens, whole.usage.outputTokens);
  });

  test(`J5, J9 to J18: ${name}: a tool loop, streamed`, async () => {
    const errors = [];
    const loop = streamText({
      ...ask,
      model,
      prompt: "What is the weather in Paris?",
      tools: { get_weather },
      stopWhen: stepCountIs(3),
      onError: ({ error }) => errors.push(error),
    });
    assert.ok(await loop.text);
    assert.deepEqual(errors, []);
    const [first] = await loop.steps;
    assert.equal(first.finishReason, "tool-calls");
    assert.deepEqual(first.toolCalls[0].input, { city: "Paris" });
  });

  test(`${name}: an error keeps its status and message`, async () => {
    await assert.rejects(generateText({ ...ask, model: provider("gpt-9") }), (error) => {
      assert.ok(APICallError.isInstance(error), String(error));
      assert.equal(error.statusCode, 404);
      assert.match(error.message, /shimmy-demo/);
      assert.equal(error.isRetryable, false);
      return true;
    });
  });
}

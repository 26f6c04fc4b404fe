// The Vercel AI SDK: generateText and streamText on OpenAI (chat completions and responses) and Anthropic, with a tool.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { ADDRESS, FEW, QUESTION, TOOL_QUESTION, WEATHER, failing, headers, tell } from "./telling.mjs";

async function work(client, model) {
  const settings = (scenario) => ({ model, maxRetries: 0, maxOutputTokens: 200, headers: headers(client, scenario) });

  const whole = await generateText({ ...settings("chat"), prompt: QUESTION });
  tell(client, "chat", { text: whole.text, tokens: whole.usage.totalTokens });

  const texts = [];
  const streamed = streamText({ ...settings("stream"), prompt: QUESTION });
  for await (const text of streamed.textStream) texts.push(text);
  tell(client, "stream", { text: texts.join(""), pieces: texts.length, tokens: (await streamed.usage).totalTokens });

  const asked = [];
  const get_weather = tool({
    description: "Tells the weather in a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => {
      asked.push(city);
      return WEATHER;
    },
  });
  const said = await generateText({
    ...settings("tools"),
    tools: { get_weather },
    stopWhen: stepCountIs(3),
    prompt: TOOL_QUESTION,
  });
  tell(client, "tools", { called: ["get_weather", { city: asked[0] }], text: said.text });

  for (const scenario of ["error", "refusal"]) {
    await failing(client, scenario, () => generateText({ ...settings(scenario), prompt: QUESTION }));
  }

  const leaving = new AbortController();
  const got = [];
  const left = streamText({ ...settings("cancel"), prompt: QUESTION, abortSignal: leaving.signal });
  for await (const text of left.textStream) {
    got.push(text);
    if (got.length > FEW) leaving.abort();
  }
  tell(client, "cancel", { text: got.join("") });
}

const openai = createOpenAI({ baseURL: `${ADDRESS}/v1`, apiKey: "sk-test" });
const responses = createOpenAI({ baseURL: `${ADDRESS}/upstream/responses/v1`, apiKey: "sk-test" });
const anthropic = createAnthropic({ baseURL: `${ADDRESS}/v1`, apiKey: "sk-ant-test" });

await work("vercel-openai", openai.chat("gpt-4o-mini"));
await work("vercel-responses", responses("gpt-4o-mini"));
await work("vercel-anthropic", anthropic("claude-haiku-4-5"));

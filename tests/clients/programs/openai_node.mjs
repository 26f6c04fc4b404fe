// OpenAI's own library for Node: chat completions and responses.

import OpenAI from "openai";
import { ADDRESS, FEW, QUESTION, TOOL_QUESTION, WEATHER, failing, headers, tell } from "./telling.mjs";

const MODEL = "gpt-4o-mini";
const PARAMETERS = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };

async function chat(client) {
  const sdk = new OpenAI({ baseURL: `${ADDRESS}/v1`, apiKey: "sk-test", maxRetries: 0 });
  const create = (scenario, more, messages = [{ role: "user", content: QUESTION }]) =>
    sdk.chat.completions.create({ model: MODEL, messages, ...more }, { headers: headers(client, scenario) });

  const whole = await create("chat");
  tell(client, "chat", { text: whole.choices[0].message.content, tokens: whole.usage.total_tokens });

  const texts = [];
  let tokens;
  for await (const piece of await create("stream", { stream: true, stream_options: { include_usage: true } })) {
    if (piece.choices.length) texts.push(piece.choices[0].delta.content ?? "");
    tokens = piece.usage?.total_tokens ?? tokens;
  }
  tell(client, "stream", { text: texts.join(""), pieces: texts.length, tokens });

  const tools = [{ type: "function", function: { name: "get_weather", parameters: PARAMETERS, strict: true } }];
  const messages = [{ role: "user", content: TOOL_QUESTION }];
  const called = (await create("tools", { tools }, messages)).choices[0].message;
  const call = called.tool_calls[0];
  const last = await create("tools", { tools }, [...messages, called, { role: "tool", tool_call_id: call.id, content: WEATHER }]);
  tell(client, "tools", {
    called: [call.function.name, JSON.parse(call.function.arguments)],
    text: last.choices[0].message.content,
  });

  for (const scenario of ["error", "refusal"]) await failing(client, scenario, () => create(scenario));

  const got = [];
  for await (const piece of await create("cancel", { stream: true })) {
    got.push(piece.choices[0].delta.content ?? "");
    if (got.length > FEW) break;
  }
  tell(client, "cancel", { text: got.join("") });
}

async function responses(client) {
  const sdk = new OpenAI({ baseURL: `${ADDRESS}/upstream/responses/v1`, apiKey: "sk-test", maxRetries: 0 });
  const create = (scenario, more, input = QUESTION) =>
    sdk.responses.create({ model: MODEL, input, ...more }, { headers: headers(client, scenario) });

  const whole = await create("chat");
  tell(client, "chat", { text: whole.output_text, tokens: whole.usage.total_tokens });

  const texts = [];
  let tokens;
  for await (const event of await create("stream", { stream: true })) {
    if (event.type === "response.output_text.delta") texts.push(event.delta);
    if (event.type === "response.completed") tokens = event.response.usage.total_tokens;
  }
  tell(client, "stream", { text: texts.join(""), pieces: texts.length, tokens });

  const tools = [{ type: "function", name: "get_weather", parameters: PARAMETERS, strict: true }];
  const items = [{ role: "user", content: TOOL_QUESTION }];
  const call = (await create("tools", { tools }, items)).output[0];
  items.push(call, { type: "function_call_output", call_id: call.call_id, output: WEATHER });
  const last = await create("tools", { tools }, items);
  tell(client, "tools", { called: [call.name, JSON.parse(call.arguments)], text: last.output_text });

  for (const scenario of ["error", "refusal"]) await failing(client, scenario, () => create(scenario));

  const got = [];
  for await (const event of await create("cancel", { stream: true })) {
    if (event.type === "response.output_text.delta") got.push(event.delta);
    if (got.length > FEW) break;
  }
  tell(client, "cancel", { text: got.join("") });
}

await chat("openai-node");
await responses("openai-node-responses");

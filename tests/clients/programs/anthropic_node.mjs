// Anthropic's own library for Node: messages, streamed and not.

import Anthropic from "@anthropic-ai/sdk";
import { ADDRESS, FEW, QUESTION, TOOL_QUESTION, WEATHER, failing, headers, tell } from "./telling.mjs";

const client = "anthropic-node";
const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const sdk = new Anthropic({ baseURL: ADDRESS, apiKey: "sk-ant-test", maxRetries: 0 });
const asked = (more, messages = [{ role: "user", content: QUESTION }]) => ({
  model: "claude-haiku-4-5",
  max_tokens: 200,
  messages,
  ...more,
});
const create = (scenario, more, messages) => sdk.messages.create(asked(more, messages), { headers: headers(client, scenario) });
const used = (usage) => usage.input_tokens + usage.output_tokens;

const whole = await create("chat");
tell(client, "chat", { text: whole.content[0].text, tokens: used(whole.usage) });

const texts = [];
const stream = sdk.messages.stream(asked(), { headers: headers(client, "stream") }).on("text", (text) => texts.push(text));
const final = await stream.finalMessage();
tell(client, "stream", { text: texts.join(""), pieces: texts.length, tokens: used(final.usage) });

const tools = [{ name: "get_weather", input_schema: schema }];
const messages = [{ role: "user", content: TOOL_QUESTION }];
const called = await create("tools", { tools }, messages);
const use = called.content.find((block) => block.type === "tool_use");
const result = { role: "user", content: [{ type: "tool_result", tool_use_id: use.id, content: WEATHER }] };
const last = await create("tools", { tools }, [...messages, { role: "assistant", content: called.content }, result]);
tell(client, "tools", { called: [use.name, use.input], text: last.content[0].text });

for (const scenario of ["error", "refusal"]) await failing(client, scenario, () => create(scenario));

const got = [];
for await (const event of await create("cancel", { stream: true })) {
  if (event.type === "content_block_delta") got.push(event.delta.text);
  if (got.length > FEW) break;
}
tell(client, "cancel", { text: got.join("") });

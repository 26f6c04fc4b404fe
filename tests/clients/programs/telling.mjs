// What the Node programs here share: what they ask, under which headers, and how they tell what came back.

export const ADDRESS = process.argv[2];
export const QUESTION = "Grüße aus 東京 👩‍🚀 today";
export const TOOL_QUESTION = "Please use get weather for Oslo";
export const WEATHER = "4 degrees";
export const FEW = 3;

const SCRIPTS = { error: "status=429,retry_after=7", cancel: "chunk_delay_ms=20,body_bytes=60000" };

export function headers(client, scenario) {
  return {
    "x-potstill-task": scenario === "refusal" ? "not a task" : client,
    "x-potstill-session": `${client} ${scenario}`,
    "x-potstill-tag-scenario": scenario,
    "x-app": `${client}/${scenario}`,
    ...(SCRIPTS[scenario] ? { "x-script": SCRIPTS[scenario] } : {}),
  };
}

export function tell(client, scenario, found) {
  console.log(JSON.stringify({ client, scenario, ...found }));
}

// An error as the app sees it: its type, the status and retry-after where it carries them, its words.
export function tellError(client, scenario, error) {
  const status = error.status ?? error.statusCode;
  const given = error.headers ?? error.responseHeaders ?? {};
  const retryAfter = typeof given.get === "function" ? given.get("retry-after") : given["retry-after"];
  tell(client, scenario, { error: error.constructor.name, status, retry_after: retryAfter ?? null, message: error.message });
}

// Runs `work`, which must fail with an error that tells of its HTTP status.
export async function failing(client, scenario, work) {
  try {
    await work();
  } catch (error) {
    tellError(client, scenario, error);
  }
}

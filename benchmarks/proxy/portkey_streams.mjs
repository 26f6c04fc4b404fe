// Portkey 1.15 under node 20 answers 500 to every stream ("TypeError: immutable"): it adds to the headers of the very
// Response that fetch gave it. Loaded before Portkey, this gives it Responses whose headers can be changed.
const { fetch: ask, Response } = globalThis;
globalThis.fetch = async (...asked) => {
  const { body, status, statusText, headers } = await ask(...asked);
  return new Response(body, { status, statusText, headers: new Headers(headers) });
};

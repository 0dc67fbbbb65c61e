// A Cloudflare Worker that answers a masa-node from Workers AI. docs/cloudflare.md says how to deploy it.
//
// It wants two things from its environment: `AI`, the binding to Workers AI, and `TOKEN`, a secret that the node sends
// as LLM_CF_TOKEN. Answers have the shape of Cloudflare's own REST API, streams are passed on as they come.

const MODEL = /^@(cf|hf)\/[A-Za-z0-9_-][\w.-]*\/[A-Za-z0-9_-][\w.-]*$/;

// Workers AI's own error codes, with the status its REST API gives each.
const STATUS = {
  3003: 400, 3006: 413, 3007: 408, 3008: 408, 3023: 403, 3036: 429, 3039: 400, 3040: 429, 3041: 403, 3042: 404,
  5004: 400, 5005: 405, 5007: 400, 5016: 403, 5018: 403, 5019: 405,
};

export default {
  async fetch(request, env) {
    if (!env.TOKEN) return refused(500, "this Worker has no TOKEN: set it with `wrangler secret put TOKEN`");
    if (!(await knows(request, env.TOKEN))) return refused(401, "send the Worker's TOKEN as `Authorization: Bearer …`");
    if (request.method !== "POST") return refused(405, "this Worker takes POST only");

    const asked = await request.json().catch(() => null);
    if (typeof asked?.model !== "string" || !MODEL.test(asked.model)) {
      return refused(400, "send a JSON object with a `model` named @cf/… or @hf/…");
    }
    const { model, ...input } = asked;
    try {
      return answered(await env.AI.run(model, input));
    } catch (error) {
      return failed(error);
    }
  },
};

// With `"stream": true` the model gives server-sent events, ready to pass on.
function answered(answer) {
  if (answer instanceof ReadableStream) {
    return new Response(answer, { headers: { "content-type": "text/event-stream" } });
  }
  return Response.json({ result: answer, success: true, errors: [], messages: [] });
}

// Workers AI throws errors that read like `5007: No such model`.
function failed(error) {
  const text = String(error?.message ?? error);
  const code = Number(/\b(\d{4}): /.exec(text)?.[1] ?? 0);
  return refused(STATUS[code] ?? 502, text, code);
}

function refused(status, message, code = 0) {
  return Response.json({ result: null, success: false, errors: [{ code, message }], messages: [] }, { status });
}

// Digests have one length, and every byte of them is compared: the time it takes tells nothing about the token.
async function knows(request, token) {
  const shown = request.headers.get("authorization") ?? "";
  const [one, other] = await Promise.all([digest(shown), digest(`Bearer ${token}`)]);
  return one.reduce((difference, byte, at) => difference | (byte ^ other[at]), 0) === 0;
}

async function digest(text) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
}

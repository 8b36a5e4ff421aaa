// Questions to the public API, with the viewer's key. The key is in this tab only: never in an address, never on disk.
import { store } from "./store.js";

const KEPT = "bandit-key";
const SECONDS = 20; // the longest that a plain question may take

export const key = store(sessionStorage.getItem(KEPT) ?? "");
key.watch((value) => (value ? sessionStorage.setItem(KEPT, value) : sessionStorage.removeItem(KEPT)));

/** A refusal, or no answer at all (status 0). */
export class ApiError extends Error {
  constructor(status, code, detail, faults = [], retry = 0) {
    super(detail);
    Object.assign(this, { status, code, faults, retry });
  }

  /** The address itself is not served: an older server, and not a missing experiment or arm. */
  get notOffered() {
    return this.status === 405 || (this.status === 404 && this.code === "not_found");
  }
}

/** The parts of an address, each escaped: names may have any character. */
export const at = (...parts) => ["v1", ...parts.map(encodeURIComponent)].join("/");
export const experiment = (name, ...parts) => at("experiments", name, ...parts);

/**
 * The answer to a question, as JSON.
 * @param {string} path as `at` makes it; relative, so that a proxy may put a prefix before it
 * @param {{method?: string, query?: object, body?: any, text?: string, version?: number, fresh?: boolean,
 *   signal?: AbortSignal, seconds?: number}} [how] `body` is sent as JSON, `text` as CSV; `version` is the one to change;
 *   `fresh`: nothing may be replaced
 */
export async function ask(path, how = {}) {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(how.query ?? {})) {
    if (value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  const headers = new Headers();
  if (key.get()) headers.set("Authorization", `Bearer ${key.get()}`);
  if (how.body !== undefined) headers.set("Content-Type", "application/json");
  if (how.text !== undefined) headers.set("Content-Type", "text/csv");
  if (how.version !== undefined) headers.set("If-Match", `"${how.version}"`);
  if (how.fresh) headers.set("If-None-Match", "*");
  const limit = AbortSignal.timeout((how.seconds ?? SECONDS) * 1000);
  const signal = how.signal ? AbortSignal.any([how.signal, limit]) : limit;
  const body = how.body !== undefined ? JSON.stringify(how.body) : how.text;
  let response, text;
  try {
    response = await fetch(url, { method: how.method ?? "GET", headers, body, signal, cache: "no-store" });
    text = await response.text(); // which may take too long as well
  } catch (error) {
    if (how.signal?.aborted) throw error; // nobody waits for it any more
    const late = error.name === "TimeoutError";
    throw new ApiError(0, late ? "timeout" : "unreachable", late ? "The server took too long." : "The server does not answer.");
  }
  return read(response, text);
}

function read(response, text) {
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    throw new ApiError(response.status, "malformed", `The answer (status ${response.status}) is not JSON; a proxy's?`);
  }
  if (response.ok) return value;
  if (value && !value.code && "ready" in value) return value; // /readyz tells its state with 503, too
  const detail = value?.detail ?? `The server answered with status ${response.status}.`;
  const retry = Number(response.headers.get("Retry-After")) || 0;
  throw new ApiError(response.status, value?.code ?? "unknown", detail, value?.errors ?? [], retry);
}

// Answers for which the server needs seconds and a process of its own: asked for once they are looked at, stopped when
// nobody waits, and never again by themselves.
import { ApiError, ask } from "../lib/api.js";
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { say } from "../lib/say.js";
import { Failure } from "./notice.js";

const SECONDS = 130; // the server gives up after 120
const BUSY = 3000; // ms until the next try, where it works for somebody else
const TRIES = 20;
const NOTHING = { found: null, error: null, busy: false, note: "" };

/**
 * @param {{path: string, title: string, id: string, what: string, about: string, tell: (found: any) => string,
 *   children: (found: any) => any}} how `about`: when it changes, what was found is of something else; `tell`: what a
 *   screen reader hears of it
 */
export function WorkedOut({ path, title, id, what, about, tell, children }) {
  const [state, set] = useState(NOTHING);
  const place = useRef(null);
  const stop = useRef(null);
  const change = (fields) => set((was) => ({ ...was, ...fields }));
  const run = async () => {
    stop.current?.abort();
    const { signal } = (stop.current = new AbortController());
    change({ error: null, busy: true, note: "" });
    try {
      const found = await patiently(path, signal, (note) => change({ note }));
      change({ found, busy: false });
      say(tell(found));
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ApiError)) console.error(error); // a fault of this page: seen by its tests
      change({ error, busy: false });
    }
  };
  const cancel = () => (stop.current?.abort(), change({ busy: false }));
  useEffect(() => {
    set(NOTHING);
    const seen = new IntersectionObserver(([entry]) => entry.isIntersecting && (seen.disconnect(), run()));
    seen.observe(place.current);
    return () => (seen.disconnect(), stop.current?.abort());
  }, [path, about]);
  return html`<section class="panel" aria-labelledby=${id} ref=${place}>
    <div class="title"><h3 id=${id}>${title}</h3>
      ${state.busy ? html`<button onClick=${cancel}>Stop</button>` : html`<button onClick=${run}>Work it out${state.found || state.error ? " again" : ""}</button>`}</div>
    ${state.busy && html`<p>${state.note || "The server works it out on the newest decisions; that can take some seconds."}
      <progress aria-label="Working out ${what}" /></p>`}
    <${Failure} error=${state.error} what=${what} />
    ${state.found && children(state.found)}
  </section>`;
}

/** The answer, once the server does not work for somebody else. */
async function patiently(path, signal, note) {
  for (let i = 0; ; i++) {
    try {
      return await ask(path, { signal, seconds: SECONDS });
    } catch (error) {
      if (error.code !== "overloaded" || i >= TRIES) throw error;
      note("The server works on another one; this one waits for it.");
      await new Promise((done) => setTimeout(done, BUSY));
      signal.throwIfAborted();
    }
  }
}

// Figures that refresh: only while somebody looks, one question at a time, and what was there stays when one fails.
import { ApiError } from "./api.js";
import { useCallback, useEffect, useRef, useState } from "./html.js";
import { refused } from "./session.js";
import { store, useStore } from "./store.js";

export const paused = store(false);
const hidden = store(document.hidden);
document.addEventListener("visibilitychange", () => hidden.set(document.hidden));

const SLOWEST = 15; // seconds between two tries while the server is away

/** Seconds until the next try: twice as many each time; 0: never, as the answer would be the same. */
function pauseAfter(error, failures, seconds) {
  if (error.notOffered) return 0;
  if (error.code === "overloaded") return Math.max(2, error.retry); // over in a moment: somebody else's question
  const passing = [0, 429, 503].includes(error.status);
  if (passing) return Math.max(Math.min(SLOWEST, 2 ** failures), error.retry ?? 0); // however rarely it is asked else
  return seconds && Math.max(seconds, SLOWEST);
}

/**
 * What `load(signal)` answers, again every so many seconds.
 * @param {(signal: AbortSignal) => Promise<any>} load
 * @param {number} seconds between an answer and the next question; 0: asked once
 * @param {any[]} deps when one changes, what was loaded is forgotten
 * @returns {{data: any, error: ApiError | null, at: number, busy: boolean, again: () => void}}
 */
export function useLive(load, seconds, deps) {
  const [state, set] = useState({ data: null, error: null, at: 0, busy: true });
  const [turn, next] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  const [told, unseen] = [useStore(paused), useStore(hidden)];
  const rests = told || unseen;
  const known = useRef("");
  const asked = useRef(0);
  const same = JSON.stringify(deps);
  useEffect(() => {
    const fresh = known.current !== same;
    const wanted = fresh || asked.current !== turn;
    known.current = same;
    asked.current = turn;
    if (fresh) set({ data: null, error: null, at: 0, busy: true });
    if (rests && !wanted) return undefined;
    const stop = new AbortController();
    let timer = 0;
    let failures = 0; // one after another
    const once = async () => {
      let wait = seconds;
      set((was) => ({ ...was, busy: true }));
      try {
        const data = await latest.current(stop.signal);
        if (stop.signal.aborted) return;
        failures = 0;
        set({ data, error: null, at: Date.now(), busy: false });
      } catch (error) {
        if (stop.signal.aborted) return;
        if (!(error instanceof ApiError)) console.error(error); // a fault of this page: seen by its tests
        if (error.status === 401) refused();
        wait = pauseAfter(error, ++failures, seconds);
        set((was) => ({ ...was, error, busy: false }));
      }
      if (wait > 0 && !rests) timer = setTimeout(once, wait * 1000);
    };
    once();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [same, seconds, rests, turn]);
  const again = useCallback(() => next((n) => n + 1), []);
  return { ...state, again };
}

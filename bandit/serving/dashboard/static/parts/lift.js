// How much one slice earns more than another: asked for only when it is looked at, as the server needs seconds for it.
import { ApiError, ask, experiment } from "../lib/api.js";
import { between, count, dayTime, number, percent, signed } from "../lib/format.js";
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { say } from "../lib/say.js";
import { Interval, scaleOf } from "./interval.js";
import { Failure, Notice } from "./notice.js";
import { Table } from "./table.js";

const SECONDS = 130; // the server gives up after 120
const BUSY = 3000; // ms until the next try, where another evaluation runs
const TRIES = 20;

export function Lift({ document }) {
  const { name, version } = document;
  const sliced = document.slices || document.shadow;
  const [state, set] = useState({ found: null, error: null, busy: false, note: "" });
  const place = useRef(null);
  const stop = useRef(null);
  const run = async () => {
    stop.current?.abort();
    const mine = (stop.current = new AbortController());
    set((was) => ({ ...was, error: null, busy: true, note: "" }));
    try {
      const found = await evaluated(name, mine.signal, (note) => set((was) => ({ ...was, note })));
      set({ found, error: null, busy: false, note: "" });
      say(found.lift?.sentence ?? found.note);
    } catch (error) {
      if (mine.signal.aborted) return;
      if (!(error instanceof ApiError)) console.error(error);
      set((was) => ({ ...was, error, busy: false, note: "" }));
    }
  };
  const cancel = () => {
    stop.current?.abort();
    set((was) => ({ ...was, busy: false, note: "" }));
  };
  useEffect(() => {
    if (!sliced) return undefined;
    set({ found: null, error: null, busy: false, note: "" });
    const seen = new IntersectionObserver(([entry]) => entry.isIntersecting && (seen.disconnect(), run()));
    seen.observe(place.current);
    return () => (seen.disconnect(), stop.current?.abort());
  }, [name, version]);
  return html`<section class="panel" aria-labelledby="lift" ref=${place}>
    <div class="title"><h3 id="lift">Lift</h3>
      ${sliced && (state.busy ? html`<button onClick=${cancel}>Stop</button>` : html`<button onClick=${run}>Work it out again</button>`)}</div>
    ${!sliced && html`<p class="muted">This experiment has no slices, so nothing is compared. Give a share of the users a slice that chooses
      evenly, and what learning earns is measured against it.</p>`}
    ${state.busy && html`<p>${state.note || "The server works it out on the newest decisions; that can take some seconds."} <progress aria-label="Working out the lift" /></p>`}
    <${Failure} error=${state.error} what="the lift" />
    ${state.found && html`<${Found} found=${state.found} />`}
  </section>`;
}

/** The evaluation, once no other one runs. */
async function evaluated(name, signal, note) {
  for (let i = 0; ; i++) {
    try {
      return await ask(experiment(name, "evaluation"), { signal, seconds: SECONDS });
    } catch (error) {
      if (error.code !== "overloaded" || i >= TRIES) throw error;
      note("Another evaluation runs; waiting for it.");
      await new Promise((done) => setTimeout(done, BUSY));
      signal.throwIfAborted();
    }
  }
}

function Found({ found }) {
  const { lift } = found;
  if (!lift) return html`<p>${found.note || "Not enough data yet."}</p>`;
  const rows = [{ ...lift.effect, kind: "all, weighted" }, ...lift.kinds];
  const [from, to] = scaleOf(rows);
  const columns = [
    { name: "Reward", head: true, cell: (row) => row.kind },
    { name: lift.slice, number: true, cell: (row) => number(row.mean) },
    { name: lift.baseline, number: true, cell: (row) => number(row.baseline) },
    { name: "Difference", number: true, cell: (row) => signed(row.value) },
    { name: "Its confidence sequence", number: true, cell: (row) => between(row.low, row.high) },
    { name: "", cell: (row) => html`<${Interval} low=${row.low} high=${row.high} at=${row.value} from=${from} to=${to} />` },
    { name: "Relative", number: true, cell: (row) => (row.relative === null ? "–" : `${row.relative > 0 ? "+" : ""}${percent(row.relative)}`) },
    { name: "Matured", number: true, cell: (row) => percent(row.matured) },
  ];
  return html`${lift.alarm && html`<${Notice} kind="bad" title="Do not trust this:">${lift.alarm}<//>`}
    <p class="sentence lead">${lift.sentence}</p>
    <${Table} caption="${lift.slice} against ${lift.baseline}, a decision; ${percent(lift.confidence)} confidence sequences: they hold however often you look"
      columns=${columns} rows=${rows} id=${(row) => row.kind} />
    <p class="muted">From ${count(lift.decisions)} decisions of ${count(lift.users)} users${lift.cut ? ", the newest; older ones were not read" : ""}.</p>
    ${lift.changes.length > 0 && html`<details><summary>Changed meanwhile: ${lift.changes.length}</summary>
      <ul>${lift.changes.map((each) => html`<li>${dayTime(each.time)}: ${each.what}</li>`)}</ul></details>`}`;
}

// What would be answered: edit a context or the policy, and see estimates and probabilities change. Nothing is logged.
import { ask, experiment } from "../lib/api.js";
import { count, number, percent } from "../lib/format.js";
import { html, useEffect, useState } from "../lib/html.js";
import { useLive } from "../lib/live.js";
import { ContextForm, asked, startOf } from "../parts/context.js";
import { NumberField } from "../parts/field.js";
import { KNOBS, knobsOf } from "../parts/knobs.js";
import { Bar } from "../parts/interval.js";
import { Failure, Waiting } from "../parts/notice.js";
import { Table } from "../parts/table.js";

const PAUSE = 250; // ms without a keystroke before the server is asked
const LIMIT = 100;

export function WhatIf({ document }) {
  const features = asked(document);
  const [context, set] = useState(() => startOf(document));
  const [policy, tune] = useState({});
  const [pinned, pin] = useState(null);
  const body = useSettled({ context, limit: LIMIT, ...(Object.keys(policy).length ? { change: { policy } } : {}) });
  const { name } = document;
  const [found, keep] = useState(null); // what was answered last stays, so that figures change and nothing jumps
  const live = useLive(async (signal) => {
    const answer = await ask(experiment(name, "preview"), { method: "POST", body, signal });
    keep(answer);
    return answer;
  }, 0, [name, document.version, body]);
  return html`<p class="muted">Nothing here is logged or learned. Arms with conditions on attributes are judged without these.</p>
    <div class="split">
      <form class="panel" onSubmit=${(event) => event.preventDefault()}>
        <h3>Context</h3>
        ${features.length ? html`<${ContextForm} features=${features} context=${context}
          change=${(id, value) => set((was) => ({ ...was, [id]: value }))} />` : html`<p class="muted">This experiment takes no features.</p>`}
        <${Tuned} document=${document} policy=${policy} tune=${tune} />
        <p class="buttons"><button type="button" onClick=${() => pin(found)} disabled=${!found}>Compare with this</button>
          ${pinned && html`<button type="button" onClick=${() => pin(null)}>Stop comparing</button>`}</p>
      </form>
      <section aria-labelledby="answer"><h3 id="answer">What would be shown</h3>
        <${Failure} error=${live.error} what="what would be answered" />
        ${found ? html`<${Answer} found=${found} pinned=${pinned} busy=${live.busy} />` : !live.error && html`<${Waiting} what="estimates" />`}</section>
    </div>`;
}

/** The value once it has not changed for a moment. */
function useSettled(value) {
  const [kept, keep] = useState(value);
  const text = JSON.stringify(value);
  useEffect(() => {
    const timer = setTimeout(() => keep(value), PAUSE);
    return () => clearTimeout(timer);
  }, [text]);
  return kept;
}

function Tuned({ document, policy, tune }) {
  const own = document.policy ?? {};
  const names = knobsOf(own);
  if (!names.length) return null;
  const change = (name, value) => {
    const { [name]: _, ...rest } = policy;
    tune(value === undefined ? rest : { ...rest, [name]: value });
  };
  return html`<h3>Policy</h3><div class="fields">${names.map((name) => html`<${NumberField} key=${name} label="${name} (now ${own[name]})"
    min=${KNOBS[name]?.min} max=${KNOBS[name]?.max} placeholder=${own[name]} optional=${true} value=${policy[name]} change=${(value) => change(name, value)} />`)}</div>`;
}

function Answer({ found, pinned, busy }) {
  const before = new Map((pinned?.arms ?? []).map((each) => [each.arm, each]));
  const moved = (row, of) => (before.has(row.arm) ? row[of] - before.get(row.arm)[of] : null);
  const columns = [
    { name: "Arm", head: true, cell: (row) => row.arm },
    { name: "Probability", number: true, cell: (row) => html`${percent(row.probability)} <${Bar} share=${row.probability} />` },
    ...(pinned ? [{ name: "Change", number: true, cell: (row) => points(moved(row, "probability")) }] : []),
    { name: "Expected reward", number: true, cell: (row) => number(row.mean) },
    ...(pinned ? [{ name: "Change", number: true, cell: (row) => plus(moved(row, "mean")) }] : []),
    { name: "Uncertainty (sigma × width)", number: true, cell: (row) => `± ${number(row.sigma * row.width)}` },
    { name: "Score", number: true, cell: (row) => number(row.score) },
  ];
  const best = found.arms[0];
  const hidden = found.eligible - found.arms.length;
  return html`<p class="sentence lead" aria-live="polite">${best ? html`Likeliest: <strong>${best.arm}</strong>, with a probability of ${percent(best.probability)}.` : "No arm may be shown here."}
      ${busy ? " …" : ""}</p>
    <${Table} caption="${count(found.eligible)} arms may be shown${found.slices.length > 1 ? "; probabilities are over all slices" : ""}" columns=${columns} rows=${found.arms} id=${(row) => row.arm} />
    ${hidden > 0 && html`<p class="muted">${count(hidden)} less likely arms are left out.</p>`}
    <${Slices} found=${found} />`;
}

const plus = (value) => (value === null ? "–" : `${value > 0 ? "+" : ""}${number(value)}`);
const points = (value) => (value === null ? "–" : `${value > 0 ? "+" : ""}${(100 * value).toFixed(1)} points`);

function Slices({ found }) {
  if (found.slices.length < 2) return null;
  const columns = [
    { name: "Arm", head: true, cell: (row) => row.arm },
    ...found.slices.map((slice) => ({
      name: html`${slice.slice_name} <span class="muted">(${percent(slice.share)} of users)</span>`,
      number: true,
      cell: (row) => percent(row.slices[slice.slice_name]?.probability),
    })),
  ];
  return html`<details><summary>Probabilities by slice</summary>
    <${Table} caption="Probability of each arm in each slice" quiet=${true} columns=${columns} rows=${found.arms} id=${(row) => row.arm} /></details>`;
}

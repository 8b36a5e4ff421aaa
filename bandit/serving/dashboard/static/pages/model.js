// What has been learned: what each feature weighs for an arm, and whether what was predicted came true.
import { ask, experiment } from "../lib/api.js";
import { count, dayTime, fullTime, number } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { useLive } from "../lib/live.js";
import { Calibration } from "../parts/calibration.js";
import { Interval, scaleOf } from "../parts/interval.js";
import { Loaded } from "../parts/notice.js";
import { Table } from "../parts/table.js";
import { WorkedOut } from "../parts/worked.js";
import { Choice } from "./overview.js";

export function Model({ document }) {
  return html`<${Weights} document=${document} /><${Checked} document=${document} />`;
}

const idOf = (arm) => (typeof arm === "string" ? arm : arm.id);
const LISTED = 200; // arms in the choice; any other can be typed

function Weights({ document }) {
  const arms = document.arms.map(idOf);
  const [arm, choose] = useState(arms[0] ?? "");
  const { name } = document;
  const live = useLive((signal) => (arm ? ask(experiment(name, "weights"), { query: { arm }, signal }) : null), 10, [name, arm]);
  return html`<section aria-labelledby="weights"><div class="title"><h3 id="weights">What each feature weighs</h3>
      <${Pick} arms=${arms} arm=${arm} choose=${choose} /></div>
    ${arm ? html`<${Loaded} live=${live} what="weights">${(found) => html`<${Weighed} found=${found} />`}<//>` : html`<p class="muted">No arms yet.</p>`}</section>`;
}

function Pick({ arms, arm, choose }) {
  if (arms.length <= LISTED) {
    return html`<label class="choice">For the arm <select value=${arm} onChange=${(event) => choose(event.target.value)}>
      ${arms.map((id) => html`<option key=${id} value=${id}>${id}</option>`)}</select></label>`;
  }
  return html`<label class="choice">For the arm (${count(arms.length)}) <input value=${arm} onChange=${(event) => choose(event.target.value)} /></label>`;
}

const FEW = 25; // rows at first: an arm may have 1,024
const ORDERS = { clear: "the clearest first", declared: "as in the document" };
const clarity = (row) => (row.error > 0 ? Math.abs(row.weight) / row.error : 0);

function Weighed({ found }) {
  const [order, sort] = useState("clear");
  const [all, show] = useState(false);
  const sorted = order === "clear" ? [...found.weights].sort((a, b) => clarity(b) - clarity(a)) : found.weights;
  const rows = all ? sorted : sorted.slice(0, FEW);
  const [from, to] = scaleOf(rows);
  const columns = [
    { name: "Feature", head: true, cell: (row) => `${row.feature} ${row.column}` },
    { name: "Weight", number: true, cell: (row) => number(row.weight) },
    { name: "95 % interval", number: true, cell: (row) => `${number(row.low)} to ${number(row.high)}` },
    { name: "", cell: (row) => html`<${Interval} low=${row.low} high=${row.high} at=${row.weight} from=${from} to=${to} />` },
  ];
  return html`<${Table} caption="${found.arm}: weighted reward that each feature adds, from ${count(found.impressions)} impressions"
      columns=${columns} rows=${rows} id=${(row) => `${row.feature}\n${row.column}`} />
    <p class="buttons"><span class="muted">${rows.length} of ${count(sorted.length)} weights.</span>
      <${Choice} label="Order" options=${Object.entries(ORDERS)} chosen=${order} choose=${sort} />
      ${sorted.length > FEW && html`<button onClick=${() => show(!all)}>${all ? `Only ${FEW}` : "Show all"}</button>`}</p>
    <p class="muted">A number's weight is for one scale of its document; an interval is the model's own, given its assumptions. Where it holds 0
      the sign is not known.</p>`;
}

function Checked({ document }) {
  return html`<${WorkedOut} path=${experiment(document.name, "calibration")} about=${document.generation} title="Does what is predicted come true?"
    id="calibration" what="calibration" tell=${inWords}>${(found) => html`<${Bins} found=${found} />`}<//>`;
}

const agrees = (bin) => bin.predicted >= bin.observed_low && bin.predicted <= bin.observed_high;

function inWords({ bins, note }) {
  if (!bins.length) return note || "Not enough data yet.";
  return `In ${bins.filter(agrees).length} of ${bins.length} groups the observed mean agrees with the predicted one within its 95 % interval.`;
}

/** The ends of a group, with more digits where three do not tell them apart. */
function within({ low, high }) {
  const ends = [number(low), number(high)];
  return (ends[0] === ends[1] ? [low.toPrecision(5), high.toPrecision(5)] : ends).join(" and ");
}

function Bins({ found }) {
  const sentence = inWords(found);
  if (!found.bins.length) return html`<p class="muted">${sentence}</p>`;
  const columns = [
    { name: "Predicted between", head: true, cell: within },
    { name: "Decisions", number: true, cell: (bin) => count(bin.decisions) },
    { name: "Predicted, mean", number: true, cell: (bin) => number(bin.predicted) },
    { name: "Observed, mean", number: true, cell: (bin) => number(bin.observed) },
    { name: "95 % interval", number: true, cell: (bin) => `${number(bin.observed_low)} to ${number(bin.observed_high)}` },
  ];
  return html`<p class="sentence lead">${sentence}</p>
    <${Calibration} bins=${found.bins} label=${sentence} />
    <${Table} caption="Decisions by what was predicted of them" columns=${columns} rows=${found.bins} id=${(bin) => bin.low} />
    <p class="muted">Predicted by ${predictedBy(found)}. From ${count(found.decisions)} decisions${found.first ? `, ${dayTime(found.first)} to ${dayTime(found.last)}` : ""}${found.note && `; ${found.note}`}.</p>`;
}

/** In words; the moment that they name as a field is told as a time. */
const predictedBy = (found) => found.predicted_by.replace("learned_until", found.learned_until ? fullTime(found.learned_until) : "the beginning");

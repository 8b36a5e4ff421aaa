// One decision looked at: why this arm, and what was credited when.
import { ask, experiment } from "../lib/api.js";
import { count, fullTime, number, percent, value } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { useLive } from "../lib/live.js";
import { go } from "../lib/route.js";
import { Bar } from "../parts/interval.js";
import { Failure, Notice, Waiting } from "../parts/notice.js";
import { Table } from "../parts/table.js";

const LIMIT = 50;

export function Decision({ document, rest }) {
  const id = rest.join("/"); // ids may have a /
  const [typed, type] = useState(id);
  const submit = (event) => {
    event.preventDefault();
    if (typed.trim()) go("e", document.name, "decision", typed.trim());
  };
  return html`<form class="panel" onSubmit=${submit}><label class="field">Decision id
      <input value=${typed} onInput=${(event) => type(event.target.value)} autocomplete="off" spellcheck=${false} placeholder="as the recommendation answered it" /></label>
    <p class="buttons"><button class="primary" type="submit" disabled=${!typed.trim()}>Look</button></p></form>
    ${id && html`<${Look} document=${document} id=${id} />`}`;
}

function Look({ document, id }) {
  const query = { explain: true, limit: LIMIT };
  const live = useLive((signal) => ask(experiment(document.name, "decisions", id), { query, signal }), 10, [document.name, id]);
  if (live.error?.code === "decision_not_found") {
    return html`<${Notice} kind="warn" title="No such decision.">It was never made here, belongs to an earlier generation, or is older than the log keeps.<//>`;
  }
  return html`<${Failure} error=${live.error} at=${live.at} what="decisions" />
    ${live.data ? html`<${Told} document=${document} found=${live.data} />` : !live.error && html`<${Waiting} what="the decision" />`}`;
}

function Told({ document, found }) {
  const [shown] = found.arms;
  const facts = [
    ["Decided", fullTime(found.decided_at)],
    ["Rewards count until", fullTime(found.expires_at)],
    ...(found.slice_name ? [["Slice", `${found.slice_name}, ${percent(found.shares?.[found.slice_name])} of users`]] : []),
    ["Version of the experiment", found.experiment_version],
    ...(found.deferred ? [["Activated", found.activated_at ? fullTime(found.activated_at) : "not yet: not learned"]] : []),
  ];
  const context = Object.entries(found.context);
  return html`<p class="sentence lead">${why(found)}</p>
    <dl class="facts">${facts.map(([name, text]) => html`<div><dt>${name}</dt><dd>${text}</dd></div>`)}</dl>
    <${Credited} found=${found} />
    <${Explained} found=${found} />
    <section aria-labelledby="chances"><h3 id="chances">Who could have been shown</h3><${Eligible} found=${found} shown=${shown.arm} /></section>
    <section aria-labelledby="then"><h3 id="then">The context, as it was logged</h3><${Context} rows=${context} /></section>`;
}

const FEW = 12; // features that are shown without being asked for

function Context({ rows }) {
  const columns = [
    { name: "Feature", head: true, cell: ([name]) => name },
    { name: "Value", cell: ([, each]) => value(each) },
  ];
  const table = html`<${Table} caption="Features; numbers are rounded to the grid that is learned from" columns=${columns} rows=${rows}
    id=${([name]) => name} empty="No features: a decision without a context." />`;
  return rows.length > FEW ? html`<details><summary>${rows.length} features</summary>${table}</details>` : table;
}

/** How it came to be shown: by its probability beside the largest one; those that differ by rounding are the same. */
function drawn(found, shown) {
  const [top] = found.eligible, least = top.probability * (1 - 1e-9);
  if (top.probability * found.eligible_count <= 1 + 1e-9) return "all were equally likely";
  const likeliest = found.eligible.filter((each) => each.probability >= least);
  if (likeliest.every((each) => each.arm !== shown)) return `it was drawn although ${top.arm} was likelier: exploration`;
  return likeliest.length > 1 ? "it was one of the likeliest" : "it was the likeliest";
}

/** The decision in a sentence. */
function why(found) {
  const [shown, ...more] = found.arms;
  const alone = found.eligible_count === 1 ? "it was the only arm that could be shown" : `${count(found.eligible_count)} arms could be shown`;
  const how = drawn(found, shown.arm);
  const others = more.length ? ` (and ${more.length} more below it)` : "";
  return html`<strong>${shown.arm}</strong>${others} was shown with a probability of ${percent(shown.propensity)}; ${alone}${found.eligible_count === 1 ? "" : `, and ${how}`}.`;
}

function Credited({ found }) {
  const columns = [
    { name: "When", head: true, cell: (row) => fullTime(row.at) },
    { name: "Event", cell: (row) => row.event + (row.refund_of ? `, takes back ${row.refund_of}` : "") },
    { name: "Event id", cell: (row) => row.event_id ?? "–" },
    { name: "Arm", cell: (row) => row.arm },
    { name: "Sent", number: true, cell: (row) => number(row.value) },
    { name: "Credited", number: true, cell: (row) => (row.credited > 0 ? "+" : "") + number(row.credited) },
  ];
  return html`<section aria-labelledby="credited"><h3 id="credited">What was credited when</h3>
    <${Table} caption="Feedback in the order in which it came" quiet=${true} columns=${columns} rows=${found.feedback}
      id=${(row) => `${row.at} ${row.event} ${row.event_id}`} empty=${Date.parse(found.expires_at) > Date.now() ? "Nothing yet; it may still come." : "Nothing came before the reward window ended."} /></section>`;
}

function Explained({ found }) {
  const told = found.explanation;
  if (!told?.arms.length) return null;
  const shown = found.arms[0].arm;
  const first = told.arms.find((each) => each.arm === shown);
  const rival = told.arms.find((each) => each.arm !== shown);
  const compared = [first, rival].filter(Boolean);
  const features = Object.keys(compared[0].mean_parts);
  const ranked = told.alpha !== 0; // else nothing is added for uncertainty, or it counts in another way
  const added = (each) => (ranked ? each.score - each.mean : each.sigma * each.width);
  const columns = [
    { name: "Feature", head: true, cell: (name) => name },
    ...compared.map((each) => ({ name: `${each.arm}: adds to the mean`, number: true, cell: (name) => number(each.mean_parts[name]) })),
    ...compared.map((each) => ({ name: `${each.arm}: to the uncertainty`, number: true, cell: (name) => number(each.width ? (added(each) * each.width_parts[name]) / each.width : 0) })),
  ];
  const scores = [
    { name: "Arm", head: true, cell: (each) => each.arm },
    { name: "Score", number: true, cell: (each) => number(each.score) },
    { name: "Expected reward", number: true, cell: (each) => number(each.mean) },
    { name: ranked ? `Bonus (alpha ${told.alpha === "auto" ? "auto" : number(told.alpha)})` : "Uncertainty (sigma × width)", number: true, cell: (each) => number(added(each)) },
  ];
  return html`<section aria-labelledby="why"><h3 id="why">Why, as the model of now sees it</h3>
    <p class="muted">The model has learned since, so this need not be what decided then; the probabilities below are those of then.</p>
    <${Table} caption=${ranked ? "Scores: expected reward and a bonus for what is not known yet" : "Expected rewards, and how uncertain each is"} columns=${scores} rows=${told.arms.slice(0, 10)} id=${(each) => each.arm} />
    ${told.arms.length > 10 && html`<p class="muted">${told.arms.length - 10} more are left out.</p>`}
    <details><summary>What each feature adds: ${compared.map((each) => each.arm).join(" and ")}</summary>
      <${Table} caption=${ranked ? "Parts that add up to the scores" : "Parts that add up to expected reward and uncertainty"} columns=${columns} rows=${features} id=${(name) => name} /></details></section>`;
}

function Eligible({ found, shown }) {
  const columns = [
    { name: "Arm", head: true, cell: (row) => html`${row.arm}${row.arm === shown ? html` <span class="status active">shown</span>` : ""}` },
    { name: "Probability", number: true, cell: (row) => html`${percent(row.probability)} <${Bar} share=${row.probability} />` },
    ...(found.shares ? [{ name: "Over all slices", number: true, cell: (row) => percent(row.mixture) }] : []),
  ];
  const more = found.eligible_count - found.eligible.length;
  return html`<${Table} caption="Probabilities that it was drawn with" columns=${columns} rows=${found.eligible} id=${(row) => row.arm} />
    ${more > 0 && html`<p class="muted">${count(more)} less likely ones are left out.</p>`}
    ${found.others.length > 0 && html`<details><summary>${found.others.length} could not be shown</summary>
      <ul>${found.others.map((row) => html`<li key=${row.arm}>${row.arm}: ${row.reasons.join(", ")}</li>`)}</ul></details>`}`;
}

// All experiments, a page at a time, with what each has done of late; and the health of the store and of this server.
import { ask, at, experiment } from "../lib/api.js";
import { clockTime, count, duration, number, percent, rate } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { useLive } from "../lib/live.js";
import { link } from "../lib/route.js";
import { mayChange, viewer } from "../lib/session.js";
import { useStore } from "../lib/store.js";
import { Spark } from "../parts/interval.js";
import { Failure, Loaded, Notice } from "../parts/notice.js";
import { Table } from "../parts/table.js";
import { minutesOf } from "../parts/points.js";

const PAGE = 20; // each row asks for its own line of the last hour
const EVERY = 5; // seconds
const RARELY = 30; // documents: they hardly change, and may be of 10,000 arms each

export function Experiments() {
  const [pages, turn] = useState([""]); // cursors up to the page that is shown
  const cursor = pages.at(-1);
  const query = { limit: PAGE, cursor };
  const live = useLive((signal) => ask(at("experiments"), { query, signal }), RARELY, [cursor]);
  const figures = useLive((signal) => ask(at("summary"), { query, signal }), EVERY, [cursor]);
  const told = new Map((figures.data?.experiments ?? []).map((each) => [each.experiment, each]));
  return html`<h1>Experiments</h1>
    <${Health} />
    <${Failure} error=${live.error ? null : figures.error} at=${figures.at} what="rates and rewards" />
    <${Loaded} live=${live} what="experiments">${({ experiments, next }) => html`
      ${experiments.length ? html`<${List} rows=${experiments.map((document) => ({ document, told: told.get(document.name) }))} />` : html`<${Empty} first=${pages.length === 1} />`}
      <p class="buttons">
        ${pages.length > 1 && html`<button onClick=${() => turn(pages.slice(0, -1))}>Previous</button>`}
        ${next && html`<button onClick=${() => turn([...pages, next])}>Next ${PAGE}</button>`}
      </p>
      <p class="muted">From ${clockTime(figures.at || live.at)}; rates and shares are of the last 5 minutes, or since the first decision of a day, rewards of the last hour.</p>`}<//>`;
}

function List({ rows }) {
  const lately = (row) => row.told?.windows["5m"];
  const hour = (row) => row.told?.windows["1h"];
  const columns = [
    { name: "Experiment", head: true, cell: ({ document }) => html`<a href=${link("e", document.name)}>${document.name}</a>` },
    { name: "Status", cell: ({ document }) => html`<${Status} status=${document.status} />` },
    { name: "Arms", number: true, cell: (row) => count(row.told?.arms ?? row.document.arms?.length) },
    { name: "Decisions", number: true, cell: (row) => rate(lately(row)?.per_second) },
    { name: "Last hour", cell: (row) => html`<${Line} name=${row.document.name} />` },
    { name: "Reward / decision", number: true, cell: (row) => number(hour(row)?.reward_per_decision) },
    { name: "Explored", number: true, cell: (row) => percent(lately(row)?.explore_share) },
    { name: "Newest reward", number: true, cell: (row) => ago(row.told) },
  ];
  return html`<${Table} caption="Experiments, by name" columns=${columns} rows=${rows} id=${(row) => row.document.name} />`;
}

const ago = (told) => (told?.newest_reward ? `${duration((Date.parse(told.now) - Date.parse(told.newest_reward)) / 1000)} ago` : "–");

/** Decisions a minute in the last hour. */
function Line({ name }) {
  const query = { resolution: "minute", since: "1h" };
  const live = useLive((signal) => ask(experiment(name, "series"), { query, signal }), 30, [name]);
  if (!live.data) return html`<span class="muted">–</span>`;
  return html`<${Spark} values=${minutesOf(live.data, 60).map((point) => point.decisions)} />`;
}

/** A status in a word, with a sign of its own. */
export function Status({ status = "active" }) {
  return html`<span class=${`status ${status}`}>${status}</span>`;
}

function Empty({ first }) {
  const who = useStore(viewer);
  if (!first) return html`<p class="muted">No more experiments.</p>`;
  return html`<${Notice} title="No experiments yet.">
    ${mayChange(who) ? html`<a href=${link("new")}>Make one</a> from a form or from a sample of your data.` : "An admin can make one."}<//>`;
}

function Health() {
  const live = useLive((signal) => ask("readyz", { signal }), EVERY, []);
  return html`<section aria-labelledby="health"><h2 id="health" class="unseen">Health</h2>
    <${Loaded} live=${live} what="the server's state">${(state) => html`<${State} state=${state} />`}<//></section>`;
}

function State({ state }) {
  const replicas = Object.entries(state.replicas ?? {});
  const failed = replicas.filter(([, each]) => each.failed);
  const lag = Math.max(0, ...replicas.map(([, each]) => each.lag_ms ?? 0));
  return html`<dl class="tiles">
      <div><dt>Server</dt><dd>${state.ready ? "ready" : "not ready"}</dd></div>
      <div><dt>Store</dt><dd>${state.store}</dd></div>
      <div><dt>Behind the logs</dt><dd>${replicas.length ? `≤ ${count(lag)} ms` : "–"}</dd><dd class="more">since each was read to its end, an idle one once a second</dd></div>
    </dl>
    ${state.store !== "ok" && html`<${Notice} kind="bad" title="The store is away.">${state.reason ?? "It does not answer."} What is shown may be old.<//>`}
    ${failed.length > 0 && html`<${Notice} kind="bad" title="Not served:">${failed.map(([name, each]) => `${name} (${each.failed})`).join(", ")}<//>`}`;
}

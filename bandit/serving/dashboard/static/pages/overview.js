// What an experiment does, and whether learning pays: rates, rewards by slice, the lift, and who gets the traffic.
import { ask, experiment } from "../lib/api.js";
import { count, duration, number, percent, rate } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { useLive } from "../lib/live.js";
import { Chart } from "../parts/chart.js";
import { Lift } from "../parts/lift.js";
import { Loaded } from "../parts/notice.js";
import { filled, names, ratios, soFar, together } from "../parts/points.js";

const WINDOWS = { "5m": "5 minutes", "1h": "hour", "1d": "day" };
const RANGES = {
  "1h": { text: "hour", resolution: "minute", seconds: 3600 },
  "24h": { text: "day", resolution: "minute", seconds: 86400 },
  "14d": { text: "14 days", resolution: "hour", seconds: 14 * 86400 },
  "90d": { text: "90 days", resolution: "hour", seconds: 90 * 86400 },
};

export function Overview({ document }) {
  return html`<${Now} name=${document.name} /><${Then} document=${document} />`;
}

function Now({ name }) {
  const [chosen, choose] = useState("5m");
  const live = useLive((signal) => ask(experiment(name, "summary"), { signal }), 5, [name]);
  return html`<section aria-labelledby="now">
    <div class="title"><h3 id="now">Lately</h3><${Choice} label="Of the last" options=${Object.entries(WINDOWS)} chosen=${chosen} choose=${choose} /></div>
    <${Loaded} live=${live} what="rates and shares">${(told) => html`<${Tiles} told=${told} lately=${told.windows[chosen]} />`}<//>
  </section>`;
}

/** A choice of a few, as a list. */
export function Choice({ label, options, chosen, choose }) {
  return html`<label class="choice">${label} <select value=${chosen} onChange=${(event) => choose(event.target.value)}>
    ${options.map(([id, text]) => html`<option key=${id} value=${id}>${text}</option>`)}</select></label>`;
}

function Tiles({ told, lately }) {
  const since = (when) => (when ? `${duration((Date.parse(told.now) - Date.parse(when)) / 1000)} ago` : "none within a day");
  const tiles = [
    ["Decisions", rate(lately.per_second), `${count(lately.decisions)} in ${duration(lately.seconds)}`],
    ["Reward a decision", number(lately.reward_per_decision, "not enough data yet"), "weighted; rewards still come for young decisions"],
    ["Explored", percent(lately.explore_share), "an arm was shown that was not the best"],
    ["Spread evenly", percent(lately.even_share), "every arm had the same chance"],
    ["Expired", percent(lately.late_share), "of all feedback; it came after its reward window"],
    ["Duplicates", percent(lately.duplicate_share), "of all feedback; counted once"],
    ["Refused", percent(lately.refused_share), "unknown decision, or out of range"],
    ["Newest reward", since(told.newest_reward), "is the reward pipe alive?"],
    ["Matured", percent(told.matured_share), "of decisions: their reward window is over"],
    ["Freshness", Number.isFinite(told.lag_ms) ? `≤ ${count(told.lag_ms)} ms` : "–", `since the log was read to its end, an idle one once a second; ${count(told.waiting_arms)} arms wait to be refreshed`],
  ];
  return html`<dl class="tiles">${tiles.map(([name, value, more]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd><dd class="more">${more}</dd></div>`)}</dl>
    ${told.complete === false && html`<p class="muted">Much came at once: these counts are of a little earlier.</p>`}`;
}

function Then({ document }) {
  const [chosen, choose] = useState("1h");
  const { name } = document;
  const range = RANGES[chosen];
  const query = { resolution: range.resolution, since: chosen };
  const live = useLive((signal) => ask(experiment(name, "series"), { query, signal }), 10, [name, chosen]);
  return html`<section aria-labelledby="then">
    <div class="title"><h3 id="then">Over time</h3>
      <${Choice} label="The last" options=${Object.entries(RANGES).map(([id, each]) => [id, each.text])} chosen=${chosen} choose=${choose} /></div>
    <${Loaded} live=${live} what="the series">${(series) => html`<${Charts} document=${document} points=${together(filled(series, range.seconds))} />`}<//>
    <${Lift} document=${document} />
  </section>`;
}

function Charts({ document, points }) {
  const times = points.map((point) => point.time);
  const decisions = points.reduce((sum, point) => sum + point.decisions, 0);
  if (!decisions) return html`<p class="muted">No decisions in this time.</p>`;
  return html`<${Rewards} document=${document} times=${times} points=${points} /><${Traffic} document=${document} times=${times} points=${points} /><${Explored} times=${times} points=${points} />`;
}

function Rewards({ document, times, points }) {
  const [how, choose] = useState("each");
  const found = names(points, (point) => Object.fromEntries(Object.entries(point.slices).map(([id, slice]) => [id, slice.decisions])));
  const slices = asIn(Object.keys(document.slices ?? {}), found);
  const fold = how === "each" ? ratios : soFar;
  const of = (slice) => fold(points, (p) => p.slices[slice]?.reward ?? 0, (p) => p.slices[slice]?.decisions ?? 0);
  const lines = slices.length
    ? slices.map((slice) => ({ name: slice, values: of(slice) }))
    : [{ name: "all decisions", values: fold(points, (p) => p.reward, (p) => p.decisions) }];
  const total = (slice) => soFar(points, (p) => p.slices[slice]?.reward ?? 0, (p) => p.slices[slice]?.decisions ?? 0).at(-1);
  const said = slices.length
    ? `${slices.map((slice) => `${slice}: ${number(total(slice), "not enough data yet")}`).join(", ")} a decision in this time.`
    : `${number(soFar(points, (p) => p.reward, (p) => p.decisions).at(-1), "Not enough data yet for a figure")} a decision in this time.`;
  return html`<${Chart} title="Reward a decision" sentence=${said} times=${times} lines=${lines}>
    <p class="muted">Rewards count at the time of the decision, so the newest points still grow. Points of fewer than 20 decisions are left out;
      whether a difference is real says the lift below, not the distance of the lines.</p>
    <${Choice} label="Each point" options=${[["each", "for itself"], ["sofar", "with all before it"]]} chosen=${how} choose=${choose} /><//>`;
}

const SHOWN = 7; // areas; all other arms are one more

/** In the document's order, those that it does not have last: a colour stays with its name while figures change. */
function asIn(declared, found) {
  const place = new Map(declared.map((name, i) => [name, i]));
  return [...found].sort((a, b) => (place.get(a) ?? Infinity) - (place.get(b) ?? Infinity) || 0);
}

function Traffic({ document, times, points }) {
  const arms = names(points, (point) => point.arms);
  const shown = asIn(document.arms.map((arm) => arm.id ?? arm), arms.slice(0, SHOWN));
  const all = (point) => point.impressions ?? 0;
  const share = (of) => points.map((point) => (all(point) ? of(point) / all(point) : null));
  const lines = shown.map((arm) => ({ name: arm, values: share((point) => point.arms[arm] ?? 0) }));
  const rest = (point) => all(point) - shown.reduce((sum, arm) => sum + (point.arms[arm] ?? 0), 0);
  if (points.some((point) => rest(point) > 0)) lines.push({ name: "all other arms", values: share(rest) });
  const last = [...points].reverse().find((point) => all(point));
  const most = shown.reduce((best, arm) => ((last.arms[arm] ?? 0) > (last.arms[best] ?? 0) ? arm : best), shown[0]);
  const said = most === undefined ? "" : `Lately most went to ${most}: ${percent((last.arms[most] ?? 0) / all(last))} of impressions.`;
  return html`<${Chart} title="Traffic of the arms" sentence=${said} times=${times} lines=${lines} show=${percent} stacked=${true} />`;
}

function Explored({ times, points }) {
  const lines = [
    { name: "explored", values: ratios(points, (p) => p.explored, (p) => p.decisions) },
    { name: "spread evenly", values: ratios(points, (p) => p.even, (p) => p.decisions) },
  ];
  const n = points.reduce((sum, point) => sum + point.decisions, 0);
  const of = (field) => percent(points.reduce((sum, point) => sum + (point[field] ?? 0), 0) / n);
  const said = `${of("explored")} of decisions showed an arm that was not the best, ${of("even")} gave every arm the same chance.`;
  return html`<${Chart} title="Exploration" sentence=${said} times=${times} lines=${lines} show=${percent} />`;
}

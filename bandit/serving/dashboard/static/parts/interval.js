// A number with its interval, drawn beside the words: the line is the interval, the dot the estimate, the rule is 0.
import { html } from "../lib/html.js";

const WIDE = 160;
const HIGH = 16;

/** @param {{low: number, high: number, at: number, from: number, to: number, good?: boolean}} how one scale for a column */
export function Interval({ low, high, at, from, to }) {
  if (![low, high, at].every(Number.isFinite) || !(to > from)) return null;
  const x = (value) => 4 + ((Math.min(to, Math.max(from, value)) - from) / (to - from)) * (WIDE - 8);
  const zero = from < 0 && to > 0;
  const away = low > 0 || high < 0;
  return html`<svg class=${`interval ${away ? "away" : ""}`} viewBox=${`0 0 ${WIDE} ${HIGH}`} width=${WIDE} height=${HIGH} aria-hidden="true">
    ${zero && html`<line class="zero" x1=${x(0)} x2=${x(0)} y1="0" y2=${HIGH} />`}
    <line class="reach" x1=${x(low)} x2=${x(high)} y1="8" y2="8" />
    <circle cx=${x(at)} cy="8" r="3.5" />
  </svg>`;
}

/** (from, to) that hold all intervals, and 0. */
export function scaleOf(rows) {
  const ends = rows.flatMap((row) => [row.low, row.high]).filter(Number.isFinite);
  return [Math.min(0, ...ends), Math.max(0, ...ends)];
}

/** A share as a bar, beside its number. */
export function Bar({ share }) {
  if (!Number.isFinite(share)) return null;
  const wide = Math.max(0, Math.min(1, share)) * 100;
  return html`<svg class="bar" viewBox="0 0 100 8" width="100" height="8" preserveAspectRatio="none" aria-hidden="true">
    <rect class="track" width="100" height="8" /><rect class="fill" width=${wide} height="8" /></svg>`;
}

/** A small line of what happened, oldest left; decoration: its figures stand beside it. */
export function Spark({ values }) {
  const top = Math.max(...values, 0);
  if (values.length < 2 || top <= 0) return html`<span class="muted">–</span>`;
  const points = values.map((v, i) => `${((100 * i) / (values.length - 1)).toFixed(1)},${(22 - (20 * v) / top).toFixed(1)}`);
  return html`<svg class="spark" viewBox="0 0 100 24" width="100" height="24" preserveAspectRatio="none" aria-hidden="true">
    <polyline points=${points.join(" ")} /></svg>`;
}

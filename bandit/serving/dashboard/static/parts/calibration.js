// Predicted against observed: on the rule they agree. Its figures stand in the table beside it.
import { number } from "../lib/format.js";
import { html } from "../lib/html.js";

const SIZE = 320;
const EDGE = { left: 58, bottom: 40, top: 10, right: 16 };

/** Round numbers between two ends, some four of them. */
function ticksOf(from, to) {
  const rough = (to - from) / 4;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = size * [1, 2, 5, 10].find((each) => each * size >= rough);
  const first = Math.ceil(from / step);
  return Array.from({ length: Math.floor(to / step) - first + 1 }, (_, i) => (first + i) * step);
}

export function Calibration({ bins, label }) {
  const ends = bins.flatMap((bin) => [bin.predicted, bin.observed, bin.observed_low, bin.observed_high]).filter(Number.isFinite);
  const from = Math.min(0, ...ends);
  const to = Math.max(...ends);
  if (!(to > from)) return null;
  const x = (v) => EDGE.left + ((v - from) / (to - from)) * (SIZE - EDGE.left - EDGE.right);
  const y = (v) => SIZE - EDGE.bottom - ((v - from) / (to - from)) * (SIZE - EDGE.bottom - EDGE.top);
  return html`<svg class="calibration" role="img" aria-label="Predicted against observed reward. ${label}" viewBox=${`0 0 ${SIZE} ${SIZE}`}>
    <rect class="frame" x=${x(from)} y=${y(to)} width=${x(to) - x(from)} height=${y(from) - y(to)} />
    <line class="rule" x1=${x(from)} y1=${y(from)} x2=${x(to)} y2=${y(to)} />
    ${ticksOf(from, to).map((v) => html`<text x=${x(v)} y=${SIZE - EDGE.bottom + 15} text-anchor="middle">${number(v)}</text>
      <text x=${EDGE.left - 6} y=${y(v) + 4} text-anchor="end">${number(v)}</text>`)}
    <text x=${SIZE / 2 + 20} y=${SIZE - 4} text-anchor="middle">predicted reward a decision</text>
    <text x="11" y=${SIZE / 2} text-anchor="middle" transform=${`rotate(-90 11 ${SIZE / 2})`}>observed</text>
    ${bins.map((bin) => html`<line class="reach" x1=${x(bin.predicted)} x2=${x(bin.predicted)} y1=${y(bin.observed_low)} y2=${y(bin.observed_high)} />
      <circle cx=${x(bin.predicted)} cy=${y(bin.observed)} r="4" />`)}
  </svg>`;
}

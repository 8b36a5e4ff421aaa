// Charts over time, drawn by uPlot. Each says in words what it shows, and has its figures in a table below.
import { clockTime, dayTime, number } from "../lib/format.js";
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { useStore } from "../lib/store.js";
import { colour, colours } from "../lib/theme.js";
import { Table } from "./table.js";

const HIGH = 230;
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]]; // lines differ without their colours, too
export const ROWS = 60; // of the table below: the newest

/**
 * @typedef {{name: string, values: (number | null)[], low?: (number | null)[], high?: (number | null)[]}} Line
 * @param {{title: string, sentence: string, times: number[], lines: Line[], show?: (value: number) => string,
 *   stacked?: boolean, children?: any}} how `times` in seconds; `stacked`: shares that are piled up to 1
 */
export function Chart(how) {
  const { title, sentence, times, lines, show = number, stacked = false, children } = how;
  const [under, point] = useState(null); // the place below the pointer
  const place = under ?? times.length - 1;
  return html`<figure class="chart">
    <figcaption><strong>${title}</strong> <span class="sentence">${sentence}</span></figcaption>
    ${children}
    ${times.length < 2
      ? html`<p class="muted">Not enough data yet: a line needs two points in time.</p>`
      : html`<${Canvas} ...${how} label=${`${title}. ${sentence} The figures are in the table below.`} point=${point} />
        <${Legend} lines=${lines} place=${place} time=${times[place]} show=${show} stacked=${stacked} />
        <${Figures} title=${title} times=${times} lines=${lines} show=${show} />`}
  </figure>`;
}

function Legend({ lines, place, time, show, stacked }) {
  return html`<ul class="legend"><li class="muted">${dayTime(time * 1000)}</li>
    ${lines.map((line, i) => html`<li key=${line.name}><${Sample} i=${i} stacked=${stacked} />${line.name}: ${show(line.values[place])}
      ${line.low && Number.isFinite(line.low[place]) && html`<span class="muted"> (${show(line.low[place])} to ${show(line.high[place])})</span>`}</li>`)}</ul>`;
}

/** How a line looks: its colour, and its dashes. */
function Sample({ i, stacked }) {
  const dash = DASHES[i % DASHES.length].join(" ");
  return html`<svg class=${`sample s${i % 8}`} width=${stacked ? 12 : 22} height="10" aria-hidden="true">${stacked
    ? html`<rect width="12" height="10" rx="2" />`
    : html`<line x1="0" x2="22" y1="5" y2="5" stroke-dasharray=${dash || undefined} />`}</svg>`;
}

function Figures({ title, times, lines, show }) {
  const [open, toggle] = useState(false); // a long table is made only for who looks at it
  const rows = open ? times.map((time, i) => ({ time, i })).slice(-ROWS).reverse() : [];
  const columns = [
    { name: "From", head: true, cell: ({ time }) => dayTime(time * 1000) },
    ...lines.map((line) => ({ name: line.name, number: true, cell: ({ i }) => show(line.values[i]) })),
  ];
  const caption = times.length > ROWS ? `${title}: the newest ${ROWS} of ${times.length} points` : title;
  return html`<details onToggle=${(event) => toggle(event.target.open)}><summary>Figures<span class="unseen"> of ${title}</span></summary>
    ${open && html`<${Table} caption=${caption} columns=${columns} rows=${rows} id=${(row) => row.time} quiet=${times.length <= ROWS} />`}
  </details>`;
}

function Canvas({ times, lines, show = number, stacked, label, point }) {
  const place = useRef(null);
  const drawn = useRef(null);
  const turn = useStore(colours);
  const shape = JSON.stringify([lines.map((line) => [line.name, Boolean(line.low)]), stacked, turn]);
  const data = dataOf(times, lines, stacked);
  const latest = useRef(data);
  latest.current = data;
  useEffect(() => {
    let over = false;
    let watch;
    import("../vendor/uplot.js").then(({ default: Plot }) => {
      if (over || !place.current) return;
      drawn.current = new Plot(options(place.current.clientWidth, lines, show, stacked, point), latest.current, place.current);
      watch = new ResizeObserver(([{ contentRect }]) => drawn.current?.setSize({ width: contentRect.width, height: HIGH }));
      watch.observe(place.current);
    });
    return () => {
      over = true;
      watch?.disconnect();
      drawn.current?.destroy();
      drawn.current = null;
    };
  }, [shape]);
  useEffect(() => {
    drawn.current?.setData(data);
  });
  return html`<div class="canvas" role="img" aria-label=${label} ref=${place}></div>`;
}

/** uPlot's columns: times, then of each line its values, and where it has a band its ends. */
function dataOf(times, lines, stacked) {
  if (stacked) {
    const piled = [];
    let below = times.map(() => 0);
    for (const line of lines) {
      below = below.map((sum, i) => (line.values[i] === null ? null : (sum ?? 0) + line.values[i]));
      piled.push(below);
    }
    return [times, ...piled.reverse()]; // the highest is drawn first, the others over it
  }
  return [times, ...lines.flatMap((line) => (line.low ? [line.values, line.high, line.low] : [line.values]))];
}

function options(width, lines, show, stacked, point) {
  const axis = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 }, font: "12px system-ui, sans-serif" };
  const { series, bands } = stacked ? piles(lines) : strokes(lines);
  const low = (value) => Math.min(0, value);
  return {
    width,
    height: HIGH,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { show: !stacked } },
    scales: { y: { range: stacked ? [0, 1] : (_, from, to) => [low(from), to <= from ? from + 1 : to + 0.05 * (to - low(from))] } },
    axes: [
      { ...axis, values: (_, ticks) => ticks.map((time) => (ticks.at(-1) - ticks[0] > 86400 ? dayTime : clockTime)(time * 1000).replace(/:00$/, "")), space: 90 },
      { ...axis, values: (_, ticks) => ticks.map((value) => show(value)), size: 62 },
    ],
    series: [{}, ...series],
    bands,
    hooks: {
      setCursor: [(plot) => point(plot.cursor.idx ?? null)],
      draw: stacked ? [(plot) => (bars(plot, lines), name(plot, lines))] : [],
    },
  };
}

function strokes(lines) {
  const series = [];
  const bands = [];
  lines.forEach((line, i) => {
    const stroke = colour(`series-${i % 8}`);
    series.push({ stroke, width: 2, dash: DASHES[i % DASHES.length], points: { size: 5, fill: stroke }, spanGaps: false });
    if (!line.low) return;
    series.push({ width: 0, points: { show: false } }, { width: 0, points: { show: false } });
    bands.push({ series: [series.length - 1, series.length], fill: colour(`series-${i % 8}`, 0.16) });
  });
  return { series, bands };
}

function piles(lines) {
  const series = lines.map((_, i) => ({ fill: colour(`series-${i % 8}`), stroke: colour("panel"), width: 1, points: { show: false } })).reverse();
  return { series, bands: [] };
}

/** A point without neighbours has no area: it is a bar of its own width. */
function bars(plot, lines) {
  const { ctx, bbox } = plot;
  const [times] = plot.data;
  const half = (times[1] - times[0]) / 2;
  const at = (time) => Math.min(bbox.left + bbox.width, Math.max(bbox.left, plot.valToPos(time, "x", true)));
  const empty = (i) => (lines[0].values[i] ?? null) === null;
  times.forEach((time, i) => {
    if (empty(i) || !empty(i - 1) || !empty(i + 1)) return;
    let below = 0;
    lines.forEach((line, n) => {
      const foot = plot.valToPos(below, "y", true);
      below += line.values[i];
      ctx.fillStyle = colour(`series-${n % 8}`);
      ctx.fillRect(at(time - half), plot.valToPos(below, "y", true), at(time + half) - at(time - half), foot - plot.valToPos(below, "y", true));
    });
  });
}

/** The name of each area that is high enough, within it: areas differ without their colours, too. */
function name(plot, lines) {
  const { ctx } = plot;
  const last = plot.data[0].length - 1;
  const ratio = devicePixelRatio;
  if ((lines[0]?.values[last - 1] ?? null) === null) return; // no area
  ctx.save();
  ctx.font = `${12 * ratio}px system-ui, sans-serif`;
  ctx.textAlign = "right";
  ctx.textBaseline = "middle";
  let below = 0;
  lines.forEach((line, i) => {
    const share = line.values[last] ?? 0;
    const y = plot.valToPos(below + share / 2, "y", true);
    below += share;
    if (share < 0.08) return;
    ctx.fillStyle = colour(`on-series-${i % 8}`);
    const shown = line.name.length > 24 ? `${line.name.slice(0, 23)}…` : line.name;
    ctx.fillText(shown, plot.bbox.left + plot.bbox.width - 8 * ratio, y);
  });
  ctx.restore();
}

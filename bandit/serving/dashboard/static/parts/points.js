// From a series to what charts draw: gaps filled with zeros, many points put together into few, shares of counts.

const SPAN = { minute: 60, hour: 3600 };
export const MOST = 120; // points in a chart: more than there are pixels for lines to differ

/** The points between `since` and now, one for each minute or hour, empty ones too; times in seconds. */
export function filled(series, seconds) {
  const step = SPAN[series.resolution];
  const end = Math.floor(Date.parse(series.now) / 1000 / step) * step;
  const first = series.points.length ? Math.floor(Date.parse(series.points[0].at) / 1000) : end;
  const begin = Math.max(first - step, end - seconds + step); // one before the first: a line needs two
  const known = new Map(series.points.map((point) => [Math.floor(Date.parse(point.at) / 1000), point]));
  const found = [];
  for (let time = begin; time <= end; time += step) found.push({ time, ...(known.get(time) ?? NOTHING) });
  return found;
}

const NOTHING = { decisions: 0, impressions: 0, explored: 0, even: 0, arms: {}, other_arms: 0, reward: 0, slices: {}, outcomes: {} };

/** The newest `n` minutes. */
export const minutesOf = (series, n) => {
  const found = filled({ ...series, resolution: "minute" }, n * 60);
  const missing = Math.max(0, n - found.length);
  return [...Array(missing).fill(NOTHING), ...found];
};

/** At most `MOST` points, each the sum of several; the last may be of fewer. */
export function together(points) {
  const size = Math.ceil(points.length / MOST);
  if (size <= 1) return points;
  const found = [];
  for (let i = 0; i < points.length; i += size) found.push(points.slice(i, i + size).reduce(sum));
  return found;
}

function sum(a, b) {
  const added = { ...a };
  for (const name of ["decisions", "impressions", "explored", "even", "other_arms", "reward"]) added[name] = (a[name] ?? 0) + (b[name] ?? 0);
  added.arms = counts(a.arms, b.arms);
  added.outcomes = counts(a.outcomes, b.outcomes);
  added.slices = { ...a.slices };
  for (const [name, slice] of Object.entries(b.slices)) {
    const was = added.slices[name] ?? { decisions: 0, reward: 0 };
    added.slices[name] = { decisions: was.decisions + slice.decisions, reward: was.reward + slice.reward };
  }
  return added;
}

function counts(a, b) {
  const added = { ...a };
  for (const [name, n] of Object.entries(b)) added[name] = (added[name] ?? 0) + n;
  return added;
}

const FEW = 20; // decisions below which a ratio is mostly noise

/** One ratio for each point; null where it would say nothing. */
export const ratios = (points, of, over) => points.map((point) => (over(point) >= FEW ? of(point) / over(point) : null));

/** The same, each over all points up to it: what was earned so far. */
export function soFar(points, of, over) {
  let [a, b] = [0, 0];
  return points.map((point) => {
    [a, b] = [a + of(point), b + over(point)];
    return b >= FEW ? a / b : null;
  });
}

/** Every name in a map of each point, the most frequent first. */
export function names(points, of) {
  const all = points.reduce((added, point) => counts(added, of(point)), {});
  return Object.entries(all).sort(([, a], [, b]) => b - a).map(([name]) => name);
}

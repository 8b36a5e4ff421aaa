// Numbers, times and units for people. What is not known is said in words, never shown as 0.

const LOCALE = "en"; // the pages' language
const numbers = new Intl.NumberFormat(LOCALE, { maximumSignificantDigits: 3 });
const whole = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
export const UNKNOWN = "not enough data yet";
const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

/** Three digits; of a count all of them. */
export function number(value, none = "–") {
  if (!known(value)) return none;
  return Math.abs(value) >= 1000 ? whole.format(value) : numbers.format(value);
}

export const count = (value, none = "–") => (known(value) ? whole.format(value) : none);

/** A share as a percentage; a small one is not rounded to nothing. */
export function percent(value, none = "–") {
  if (!known(value)) return none;
  if (value > 0 && value < 0.0005) return "< 0.05 %";
  return `${numbers.format(100 * value)} %`;
}

/** A number with its sign: a difference. */
export const signed = (value, none = UNKNOWN) => (known(value) ? (value > 0 ? "+" : "") + number(value) : none);

export const between = (low, high, none = UNKNOWN) => (known(low) && known(high) ? `${number(low)} to ${number(high)}` : none);

/** So many a second, in the unit that a reader can imagine. */
export function rate(perSecond, none = "–") {
  if (!known(perSecond)) return none;
  if (perSecond === 0) return "none";
  if (perSecond >= 0.1) return `${number(perSecond)} / s`;
  return perSecond >= 0.1 / 60 ? `${number(60 * perSecond)} / min` : `${number(3600 * perSecond)} / h`;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const short = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const full = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
export const clockTime = (when) => clock.format(new Date(when));
export const shortTime = (when) => short.format(new Date(when));
export const dayTime = (when) => day.format(new Date(when));
export const fullTime = (when) => full.format(new Date(when));

const STEPS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

/** A duration in words, in its largest unit. */
export function duration(seconds, none = "–") {
  if (!known(seconds)) return none;
  if (seconds < 1) return seconds <= 0 ? "0 seconds" : `${Math.max(1, Math.round(seconds * 1000))} ms`;
  const [unit, size] = STEPS.find(([, each]) => seconds >= each);
  const n = Number((seconds / size).toFixed(seconds / size < 10 && size > 1 ? 1 : 0));
  return `${n} ${unit}${n === 1 ? "" : "s"}`;
}

/** Any value of a document or context as text. */
export const value = (given) => (typeof given === "string" ? given : JSON.stringify(given) ?? "–");

// What stands where figures cannot: an error with what to do about it, a wait, an empty place.
import { html } from "../lib/html.js";
import { clockTime } from "../lib/format.js";
import { link } from "../lib/route.js";

/** A message; `kind` is info, good, warn or bad, told by a word too, not by colour alone. */
export function Notice({ kind = "info", title, children }) {
  return html`<div class=${`notice ${kind}`} role=${kind === "bad" ? "alert" : undefined}>
    ${title && html`<strong>${title}</strong> `}${children}
  </div>`;
}

/** An error, and how old the figures beside it are; nothing where there is none. */
export function Failure({ error, at = 0, what = "this" }) {
  if (!error) return null;
  const since = at ? ` What is shown is from ${clockTime(at)}.` : "";
  if (error.notOffered) {
    return html`<${Notice} title="Not offered here.">This server does not tell ${what}.<//>`;
  }
  if (error.status === 0) return html`<${Notice} kind="bad" title="No answer.">${error.message} Trying again.${since}<//>`;
  if (error.status === 401) return html`<${Notice} kind="bad" title="A key is needed.">${error.message}<//>`;
  if (error.status === 403) return html`<${Notice} kind="warn" title="Your key may not see ${what}.">${error.message}<//>`;
  if (error.status === 429) return html`<${Notice} kind="warn" title="Too many questions.">${error.message}${since}<//>`;
  if (error.code === "experiment_not_found") {
    return html`<${Notice} kind="warn" title="There is no such experiment.">
      It may have been deleted meanwhile. <a href=${link()}>All experiments</a><//>`;
  }
  if (error.code === "precondition_failed") {
    return html`<${Notice} kind="bad" title="Somebody else was first.">It was made or changed meanwhile, and nothing of yours is in force. Close this, and look at what is.<//>`;
  }
  if (error.code === "overloaded") return html`<${Notice} title="The server is busy:">${error.message}. Trying again.${since}<//>`;
  if (error.status === 503) {
    const title = error.code === "store_unavailable" ? "The store is away:" : "The server does not serve yet:";
    return html`<${Notice} kind="bad" title=${title}>${error.message}. Trying again.${since}<//>`;
  }
  return html`<${Notice} kind="bad" title="That did not work.">${error.message}${since}<${Faults} faults=${error.faults} /><//>`;
}

/** Each fault of a refusal with its place. */
export function Faults({ faults }) {
  if (!faults?.length) return null;
  return html`<ul>${faults.map((fault) => html`<li key=${fault.pointer}>
    <code>${fault.pointer || "/"}</code>: expected ${fault.expected}, got ${fault.got}</li>`)}</ul>`;
}

export const Waiting = ({ what = "figures" }) => html`<p class="muted waiting">Loading ${what} …</p>`;

/** What was loaded, or why it was not. */
export function Loaded({ live, what, children }) {
  return html`<${Failure} error=${live.error} at=${live.at} what=${what} />
    ${live.data ? children(live.data) : !live.error && html`<${Waiting} what=${what} />`}`;
}

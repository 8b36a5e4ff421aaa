// One experiment: its name, its state, and the pages about it.
import { ask, experiment } from "../lib/api.js";
import { html } from "../lib/html.js";
import { useLive } from "../lib/live.js";
import { link } from "../lib/route.js";
import { mayChange, viewer } from "../lib/session.js";
import { useStore } from "../lib/store.js";
import { Failure, Loaded, Notice } from "../parts/notice.js";
import { Arms } from "./arms.js";
import { Change } from "./change.js";
import { Decision } from "./decision.js";
import { Status } from "./experiments.js";
import { Model } from "./model.js";
import { Overview } from "./overview.js";
import { WhatIf } from "./whatif.js";

const TABS = [
  ["", "Overview", Overview],
  ["arms", "Arms", Arms],
  ["model", "Model", Model],
  ["what-if", "What if", WhatIf],
  ["decision", "Decision", Decision],
  ["change", "Change", Change],
];

const SECONDS = 30; // between two looks at the document; what is changed here is seen at once

/** @param {{name: string, tab: string, rest: string[]}} how */
export function Experiment({ name, tab, rest }) {
  const who = useStore(viewer);
  const live = useLive((signal) => ask(experiment(name), { signal }), SECONDS, [name]);
  const tabs = TABS.filter(([id]) => id !== "change" || mayChange(who));
  const [, title, Page] = tabs.find(([id]) => id === tab) ?? [];
  const gone = live.error?.code === "experiment_not_found";
  return html`<div class="title"><h1>${name}</h1>${live.data && !gone && html`<${Status} status=${live.data.status} />
      <span class="muted">version ${live.data.version}, generation ${live.data.generation}</span>`}</div>
    <nav class="tabs" aria-label="About ${name}"><ul>${tabs.map(([id, text]) => html`<li key=${id}>
      <a href=${id ? link("e", name, id) : link("e", name)} aria-current=${id === tab ? "page" : undefined}>${text}</a></li>`)}</ul></nav>
    ${gone ? html`<${Failure} error=${live.error} />` : html`<${Loaded} live=${live} what="the experiment">${(document) => html`
      <${Warnings} document=${document} />
      ${Page ? html`<h2 class="unseen">${title}</h2><${Page} document=${document} rest=${rest} again=${live.again} />` : html`<p>${TABS.some(([id]) => id === tab) ? "This page needs a key of the role “admin”." : "There is no such page."}</p>`}`}<//>`}`;
}

function Warnings({ document }) {
  const found = [...(document.warnings ?? [])];
  if (document.evaluable === false) found.push("Nothing is explored: the log cannot say what other choices would have earned.");
  return found.length ? html`<${Notice} kind="warn" title="Mind:">${found.map((text) => html`<div>${text}</div>`)}<//>` : null;
}

// The frame around every page: who looks, where to go, and the page that the address asks for.
import { key } from "./lib/api.js";
import { html, render, useEffect, useRef } from "./lib/html.js";
import { paused } from "./lib/live.js";
import { link, route } from "./lib/route.js";
import { said } from "./lib/say.js";
import { identify, mayChange, mayRead, viewer } from "./lib/session.js";
import { useStore } from "./lib/store.js";
import { theme } from "./lib/theme.js";
import { KeyForm } from "./parts/key.js";
import { Failure, Notice, Waiting } from "./parts/notice.js";
import { Audit } from "./pages/audit.js";
import { Create } from "./pages/create.js";
import { Experiment } from "./pages/experiment.js";
import { Experiments } from "./pages/experiments.js";

function App() {
  const who = useStore(viewer);
  const parts = useStore(route);
  const main = useRef(null);
  const first = useRef(true);
  useEffect(() => {
    document.title = [...parts].reverse().concat("bandit-server").join(" – ");
    if (first.current) first.current = false;
    else main.current?.focus({ preventScroll: true }); // a reader begins with the new page
    scrollTo(0, 0);
  }, [parts.slice(0, 3).join("/")]);
  return html`<a class="skip" href="#main" onClick=${(event) => (event.preventDefault(), main.current.focus())}>Skip to the content</a>
    <${Head} who=${who} parts=${parts} />
    <main id="main" tabindex="-1" ref=${main}><${Page} who=${who} parts=${parts} /></main>
    <${Said} />`;
}

function Page({ who, parts }) {
  if (!who) return html`<${Waiting} what="the page" />`;
  if (who.failed) return html`<${Failure} error=${who.failed} /><p><button onClick=${identify}>Try again</button></p>`;
  if (who.wanted !== undefined) return html`<${KeyForm} why=${who.wanted} />`;
  if (!mayRead(who)) {
    return html`<h1>Nothing to see with this key</h1><${Notice}>A key of the role “write” asks and reports; it reads nothing. Use one of the role “read” or “admin”.<//>
      <${KeyForm} />`;
  }
  const [first, name, ...rest] = parts;
  if (first === undefined) return html`<${Experiments} />`;
  if (first === "e" && name) return html`<${Experiment} key=${name} name=${name} tab=${rest[0] ?? ""} rest=${rest.slice(1)} />`;
  if (first === "new" && mayChange(who)) return html`<${Create} />`;
  if (first === "audit" && mayChange(who)) return html`<${Audit} only=${name ?? ""} />`;
  if (["new", "audit"].includes(first)) return html`<h1>For admins</h1><p>This page needs a key of the role “admin”. <a href=${link()}>All experiments</a></p>`;
  return html`<h1>No such page</h1><p><a href=${link()}>All experiments</a></p>`;
}

function Head({ who, parts }) {
  const open = who && who.wanted === undefined && !who.failed;
  const here = (is) => (is ? "page" : undefined);
  return html`<header>
    <a class="brand" href=${link()}>bandit-server</a>
    ${open && html`<nav aria-label="Pages"><ul>
      <li><a href=${link()} aria-current=${here(parts.length === 0)}>Experiments</a></li>
      ${mayChange(who) && html`<li><a href=${link("new")} aria-current=${here(parts[0] === "new")}>New</a></li>`}
      ${mayChange(who) && html`<li><a href=${link("audit")} aria-current=${here(parts[0] === "audit")}>Audit</a></li>`}
    </ul></nav>`}
    <div class="tools">${open && html`<${Pause} /><${Who} who=${who} />`}<${Theme} /></div>
  </header>`;
}

function Pause() {
  const rests = useStore(paused);
  return html`<button aria-pressed=${rests} onClick=${() => paused.set(!rests)}>${rests ? "Paused" : "Pause updates"}</button>`;
}

function Who({ who }) {
  if (!who.auth) return null;
  return html`<span class="who">${who.name ?? who.key ?? "key"} <span class="muted">(${who.role})</span></span>
    <button onClick=${() => key.set("")}>Sign out</button>`;
}

function Theme() {
  const chosen = useStore(theme);
  return html`<label><span class="unseen">Colours</span><select value=${chosen} onChange=${(event) => theme.set(event.target.value)}>
    <option value="auto">Auto</option><option value="light">Light</option><option value="dark">Dark</option></select></label>`;
}

function Said() {
  return html`<div class="unseen" role="status" aria-live="polite">${useStore(said)}</div>`;
}

render(html`<${App} />`, document.getElementById("app"));
identify();

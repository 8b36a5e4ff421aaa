// What a screen reader hears without the focus being moved: what was done, and what went wrong. Figures are not read out.
import { route } from "./route.js";
import { viewer } from "./session.js";
import { store } from "./store.js";

export const said = store("");
for (const moved of [route, viewer]) moved.watch(() => said.set("")); // what was said of another page, or to another viewer

export function say(text) {
  said.set("");
  setTimeout(() => said.set(text), 50); // the same words twice are heard twice
}

// Which page: the parts behind the # of the address, each escaped. Names of experiments and ids may have any character.
import { store } from "./store.js";

function read() {
  try {
    return location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    return ["?"]; // a broken escape: no page
  }
}

export const route = store(read());
addEventListener("hashchange", () => route.set(read()));

export const link = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;
export const go = (...parts) => (location.hash = link(...parts));

// Light, dark, or as the system says; charts are drawn on a canvas and have to be told.
import { store } from "./store.js";

const KEPT = "bandit-theme";
export const theme = store(localStorage.getItem(KEPT) ?? "auto");
/** Goes up whenever the colours have changed. */
export const colours = store(0);

const changed = () => colours.set(colours.get() + 1);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
theme.watch((chosen) => {
  if (chosen === "auto") {
    localStorage.removeItem(KEPT);
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem(KEPT, chosen);
    document.documentElement.dataset.theme = chosen;
  }
  changed();
});

/** A colour of style.css by its name, as it is now: a canvas takes numbers only, and no light-dark(). */
export function colour(name, opacity = 1) {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const [red, green, blue] = getComputedStyle(probe).color.match(/[\d.]+/g);
  probe.remove();
  return `rgba(${red}, ${green}, ${blue}, ${opacity})`;
}

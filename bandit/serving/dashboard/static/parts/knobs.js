// What the numbers of a policy mean, and which policies a form can write, each with its defaults.

export const KNOBS = {
  alpha: { min: 0, empty: "auto", told: "how many standard deviations of uncertainty count for an arm; empty: auto, by what rewards can be" },
  scale: { min: 0, told: "how many times their standard deviation estimates are drawn with: more tries what is less known" },
  gamma_scale: { min: 0, told: "how soon estimates are trusted: twice as much, and arms behind the best get half as much" },
  temperature: { min: 1e-6, told: "how many standard deviations of rewards ahead make an arm e times as likely: less is greedier" },
  explore: { min: 0, max: 1, empty: "auto", told: "share of decisions that is spread evenly over all arms, 0 to 1: what makes the log able to judge; empty: auto, from .02 down to .005 as more is known" },
};

export const POLICIES = {
  linucb: { told: "the largest estimate with a bonus for what is not known", knobs: { alpha: "auto", explore: "auto" } },
  thompson: { told: "each arm as often as it is probably the best", knobs: { scale: 0.5, explore: "auto" } },
  "inverse-gap": { told: "the closer to the best, the likelier", knobs: { gamma_scale: 10, explore: "auto" } },
  softmax: { told: "the better, the likelier, by a temperature", knobs: { temperature: 0.05, explore: "auto" } },
  "epsilon-greedy": { told: "the largest estimate", knobs: { explore: "auto" } },
};

/** The numbers of a policy that can be changed, by their names. */
export const knobsOf = (policy) => Object.keys(policy ?? {}).filter((name) => typeof policy[name] === "number" || KNOBS[name]?.empty === policy[name]);

/** What a field of one has: a number, or nothing where that stands for a word, as the alpha "auto". */
export const fieldOf = (name, value, change) => {
  const { min, max, empty } = KNOBS[name] ?? {};
  const word = value === empty && empty !== undefined;
  return { min, max, optional: empty !== undefined, placeholder: empty, value: word ? undefined : value, change: (given) => change(given ?? empty) };
};

"""Which policy learns faster? Plays three in a made-up environment, and compares them over the same eight seeds.

    python examples/compare_policies.py

Every seed is another problem of the same kind. Under one seed all policies meet the same visitors, so that differences
between them are paired: they vary much less than what each policy earns.
"""

from simulator import run
from simulator.environments.named import named
from simulator.studies.across_seeds import differences, summaries

POLICIES = ("linucb:alpha=0.5", "epsilon-greedy:explore=0.1", "uniform")
BASELINE = "epsilon-greedy:explore=0.1"  # it sees no context


def main() -> None:
    """What each policy earned, and what each earned more or less than the baseline."""
    environment = named("logistic", arms=5, features=4)
    results = run(environment, POLICIES, rounds=2000, seeds=8)
    for each in summaries(results.rows):
        print(f"{each.policy:27} {each.mean:.4f} a round ({each.low:.4f} to {each.high:.4f}), worst {each.worst:.4f}")
    print(f"\nagainst {BASELINE}:")
    for d in differences(results.rows, BASELINE):
        print(f"{d.policy:27} {d.difference:+.4f} ({d.low:+.4f} to {d.high:+.4f}) over {d.seeds} seeds")


if __name__ == "__main__":  # the runs are spread over processes, which import this file
    main()

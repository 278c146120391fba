import json
import random
import statistics

import matplotlib.pyplot as plt

settings = {
    "coins": 20,
    "bank": 30,
    "p_win": 0.49,
    "max_rounds": 5000,
    "games": 800,
    "seed": 1234,
    "plot": {"bins": 30, "log": True, "file": "plots/lengths.png"},
}


def play(rng, coins, total, p_win, max_rounds):
    rounds = 0
    while 0 < coins < total and rounds < max_rounds:
        coins += 1 if rng.random() < p_win else -1
        rounds += 1
    return coins, rounds


def ruin_probability(coins, total, p):
    if p == 0.5:
        return 1 - coins / total
    ratio = (1 - p) / p
    return 1 - (1 - ratio**coins) / (1 - ratio**total)


rng = random.Random(settings["seed"])
total = settings["coins"] + settings["bank"]
games = [
    play(rng, settings["coins"], total, settings["p_win"], settings["max_rounds"])
    for _ in range(settings["games"])
]
lengths = [rounds for _, rounds in games]
result = {
    "ruined": sum(coins == 0 for coins, _ in games) / settings["games"],
    "expected": ruin_probability(settings["coins"], total, settings["p_win"]),
    "mean_length": statistics.mean(lengths),
    "longest": max(lengths),
}
with open("data/ruin.json", "w") as f:
    json.dump(result, f, indent=2)

plt.hist(lengths, bins=settings["plot"]["bins"], log=settings["plot"]["log"])
plt.xlabel("rounds")
plt.ylabel("games")
plt.savefig(settings["plot"]["file"])
print(f"ruined: {result['ruined']:.3f}, expected {result['expected']:.3f}")

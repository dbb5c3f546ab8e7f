"""Random learning rules and spikes, as Lava's helper learning_by_lava.py takes them and as our engine does; made by tests."""

import json

import numpy as np

from neuro.deploy.learning_engine import TRACES, LearningRule, Sign, begin, step

FACTORS = ("x1", "x2", "y1", "y2", "y3", "w", "t", "(x1 - 5)", "(y1 + 3)", "(w - 4)", "sgn(w)", "sgn(t)", "x0", "y0")


def random_sum(rng, u):
    """A rule of one to three products, each with a condition, one or two factors, and a scale."""
    terms = []
    for _ in range(rng.integers(1, 4)):
        condition = rng.choice(["x0", "y0", u])
        factors = [f for f in rng.choice(FACTORS, rng.integers(1, 3), replace=False) if f != condition]
        terms.append(" * ".join([str(rng.integers(1, 8)), f"2^{rng.integers(-7, 1)}", condition, *factors]))
    return "".join(f" {rng.choice(['+', '-']) if k else ''} {term}" for k, term in enumerate(terms)).strip()


def random_case(seed, steps=40, inputs=5, outputs=4):
    """(case for Lava, arrays): two or three factors, weights of one sign or both, epochs of 1 to 4 steps."""
    rng = np.random.default_rng(seed)
    three, sign = bool(rng.integers(2)), int(rng.integers(1, 4))
    u = f"u{rng.integers(0, 3)}"
    rule = {"dw": random_sum(rng, u), "dt": random_sum(rng, u), "t_epoch": int(rng.integers(1, 5)), "rng_seed": int(rng.integers(1000))}
    for name in TRACES[: 2 if three else 5]:
        rule |= {f"{name}_impulse": int(rng.integers(0, 128)), f"{name}_tau": float(rng.choice([0, 1.5, 5, 12, 40]))}
    low, high = list(Sign)[sign - 1].value
    arrays = {"weight": rng.integers(low, high + 1, (outputs, inputs)), "tag": rng.integers(-100, 101, (outputs, inputs)),
              "pre": rng.random((steps, inputs)) < 0.3, "post": rng.random((steps, outputs)) < 0.3,
              **{name: rng.integers(-40, 100, (steps, outputs)) for name in ("y1", "y2", "y3")}}  # fmt: skip
    return {"name": f"case{seed}", "factors": 3 if three else 2, "rule": rule, "sign": sign}, {k: x.astype(np.int64) for k, x in arrays.items()}


def write(folder, cases):
    """Files for Lava's helper."""
    for case, arrays in cases:
        np.savez(folder / f"{case['name']}.npz", **arrays)
    (folder / "cases.json").write_text(json.dumps([case for case, _ in cases]))


def ours(case):
    """The same rule for our engine."""
    r = case["rule"]
    traces = {name: (r[f"{name}_impulse"], r[f"{name}_tau"]) for name in TRACES if f"{name}_tau" in r}
    return LearningRule(r.get("dw"), r.get("dt"), **traces, third=case["factors"] == 3, epoch=r["t_epoch"], seed=r["rng_seed"], sign=list(Sign)[case["sign"] - 1])


def states(rule, arrays):
    """Lava's name -> values after each step, by our engine."""
    s, found = begin(rule, arrays["weight"], arrays["tag"]), []
    for t in range(len(arrays["pre"])):
        s = step(rule, s, arrays["pre"][t], arrays["post"][t], np.stack([arrays[k][t] for k in ("y1", "y2", "y3")]) if rule.third else None)
        found.append({"weights": s.weight, "tag_1": s.tag, **dict(zip(TRACES, [*s.x, *s.y], strict=True))})
    return {name: np.stack([f[name] for f in found]) for name in found[0]}

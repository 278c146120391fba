import json
import numpy as np
import pandas as pd

np.random.seed(7)

df = pd.read_parquet('input/df.parquet')
v = df['velocity'].values
n_boot = 5000
confidence = 0.95

def bootstrap(stat):
    samples = np.random.choice(v, size=(n_boot, len(v)), replace=True)
    values = stat(samples, axis=1)
    alpha = (1 - confidence) / 2
    return {
        'estimate': float(stat(v)),
        'low': float(np.quantile(values, alpha)),
        'high': float(np.quantile(values, 1 - alpha)),
    }

results = {'mean': bootstrap(np.mean), 'median': bootstrap(np.median), 'n': len(v)}
json.dump(results, open('data/bootstrap.json', 'w'), indent=2)
for name in ('mean', 'median'):
    r = results[name]
    print(f"{name}: {r['estimate']:.2f} [{r['low']:.2f}, {r['high']:.2f}] km/s")

import pandas as pd
import matplotlib.pyplot as plt

start_date = "2023-03-01"
end_date = "2023-03-28"
holidays = ["2023-03-08"]
working_hours = (8, 18)
statistic = "mean"

meter = pd.read_parquet("input/meter.parquet")
meter["timestamp"] = pd.to_datetime(meter["timestamp"])
day = meter["timestamp"].dt.normalize()
meter = meter[(day >= start_date) & (day <= end_date) & ~day.isin(pd.to_datetime(holidays))]
meter = meter.assign(weekday=meter["timestamp"].dt.day_of_week, hour=meter["timestamp"].dt.hour)

work = meter[meter["hour"].between(*working_hours, inclusive="left")]
matrix = work.pivot_table(index="weekday", columns="hour", values="kwh", aggfunc=statistic)
matrix.round(3).to_csv("data/usage_matrix.csv")

daily = meter.set_index("timestamp")["kwh"].resample("D").sum()
daily = daily[daily > 0]
weekend = daily.index.day_of_week >= 5
comparison = pd.Series({"working_day": daily[~weekend].mean(), "weekend": daily[weekend].mean()}, name="kwh_per_day")
comparison.round(3).to_json("data/comparison.json")

plt.imshow(matrix, aspect="auto", cmap="YlOrRd")
plt.xticks(range(matrix.shape[1]), matrix.columns)
plt.yticks(range(matrix.shape[0]), ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"])
plt.xlabel("hour")
plt.colorbar(label="kWh")
plt.savefig("plots/usage.png")
print(comparison)

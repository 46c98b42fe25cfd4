# %% [markdown]
# # From a table of runs to a decision
#
# Runs of the quickstart: dense and factorized transformers over four compute budgets. Any table of params, tokens and
# loss is read the same way. Run the cells in an editor, or all of them with `python analysis/tutorial.py`.

# %%
import scaling

study = scaling.load("results/quickstart")
print(study)

# %% [markdown]
# ## What was trained

# %%
print(study.cells[["line", "budget", "shape", "n", "tokens", "loss_nats"]].head(8).to_string(index=False))

# %% [markdown]
# ## One line's law

# %%
print(study.laws["dense"])
print(study.predict([3.3e11, 3.3e12])[["line", "compute", "N", "D", "loss"]].head(6).to_string(index=False))

# %% [markdown]
# ## Is a line better?
#
# Below 1 it needs more compute than dense for the same loss.

# %%
columns = ["line", "place", "cost", "multiplier", "interval_low", "interval_high", "verdict"]
print(study.comparisons[columns].head(6).to_string(index=False))

# %% [markdown]
# ## What will serving cost?

# %%
decided = study.compare(served=1e9, device="h100", batch=32)
life = decided[decided.choice == "cheapest over its life"]
print(
    life[["line", "form", "total", "ratio", "ratio_interval_low", "ratio_interval_high", "verdict"]].to_string(
        index=False
    )
)

# %% [markdown]
# ## A figure of your own

# %%
ax = study.plot.isoflop("low_rank@0.25")
ax.figure.savefig("isoflop-low-rank.png", dpi=160)

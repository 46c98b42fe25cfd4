"""A sweep file that plans, trains, fits and reports in seconds."""

MICRO = """\
sweep: micro
question: Does any of this work?
data: {corpus: python-stdlib, tokenizer: bytes, validation_tokens: 4k}
grid:
  kind: isoflop
  budgets: [7e7, 1.4e8, 2.8e8]
  ladder:
    - {layers: 1, width: 8, heads: 1, ff_width: 24}
    - {layers: 1, width: 12, heads: 1, ff_width: 32}
    - {layers: 1, width: 16, heads: 1, ff_width: 40}
    - {layers: 2, width: 16, heads: 1, ff_width: 40}
  sizes: all
families:
  dense: {parameterization: dense, optimizer: muon, lr: 0.02}
  low_rank: {parameterization: low_rank, optimizer: spectron, lr: 0.05, other_lr: 0.02, rank_ratio: 0.25}
training:
  sequence_length: 32
  batch_tokens: 32
  replicates: {seeds: 2}
analysis: {bootstrap: 50, predict: [1e10]}
"""

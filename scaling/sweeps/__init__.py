"""What to run: from a question in a sweep file to a grid of runs with a known price.

A sweep file (`schema`) names budgets, a ladder of shapes (`ladders`) and families with recipes (`recipes`).
`grids.plan` crosses them into runs, with every number resolved, and lists each cell it dropped with the reason;
`counting` gives parameters, FLOPs and bytes by structure; `price` turns a plan into hours, memory and money; `design`
simulates a plan before a FLOP is spent and proposes the next runs. Nothing here trains, reads a corpus, or loads
torch, pandas or scipy at import.
"""

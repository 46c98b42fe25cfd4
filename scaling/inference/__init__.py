"""What a trained model costs to serve, and which line is cheaper at equal loss.

`cost` prices one model on one device, kernel by kernel; `curve` makes the quantities of a ladder functions of N;
`equal_loss` finds, on a fitted law, the models that reach a loss; `compare` joins them into the three comparisons.
`generate` and `measure` (torch) run the trained decoder with a cache and time both forms of a factorized model on
this machine.
"""

"""One run: from settings and tokens to a result, on one core, one GPU or many.

`loop.train` is the way in. A model (`model`, `linear`) holds plain parameters; `flat` lays the parameters of one device
out in one buffer, so that an update rule (`orthogonal`, `spectron`: pure functions over batches of matrices;
`optimizers`: their state) is a handful of batched products. `schedule` gives the rate, `validation` the loss with its
error, `checkpoint` the files, `parallel` the other ranks. Nothing random is drawn after the weights are, so a run is a
function of its settings and a resumed run is the same run.

This package alone imports torch (with `inference.generate` and `inference.measure`).
"""

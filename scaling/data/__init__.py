"""Text to batches, in four steps, one module each.

`corpus` finds documents (built-in, files, Hugging Face) and cleans them; `tokenizer` turns text into token ids;
`shards` prepares both once per store, under the hash of what came out; `batches` cuts the prepared tokens into the
global batches of a run and into the fixed validation windows. NumPy only: training turns the arrays into tensors.
"""

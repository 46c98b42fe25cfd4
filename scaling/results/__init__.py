"""What came out: the store of run folders, the launches that filled it, the status of every run, and `runs.csv`.

State is files. What a run is (`run.json`), who worked on it (`attempts/`) and what came out (`result.json`) are
written once and never changed; everything else, the status of a run above all, is derived from them each time
somebody asks.
"""

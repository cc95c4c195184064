"""Image quality: pure functions from arrays to `qa.model.Measure`, and the judgement of those measures.

`measure.measure_image` is the way in; `verdict.judge` applies `thresholds.yaml` and `protocols.yaml`. Not here: the
lake (`qa.images`) and how an image came to be (`ingestion`).
"""

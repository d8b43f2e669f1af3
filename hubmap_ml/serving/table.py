"""Predictions as a table for people outside: one row per instance, plain Python values."""

import pandas as pd

from hubmap_ml.instances import PredictionSet

THRESHOLD = 0.5


def instance_table(predictions: PredictionSet) -> pd.DataFrame:
    """Turn predictions into a table; an image without instances has no row.

    Args:
        predictions: any; masks that are still soft become pixels at 0.5.

    Returns:
        Columns ``image`` (id), ``label`` (category name), ``score`` (float), ``box`` (list of x1, y1, x2, y2
        in pixels, half-open), ``rle`` (COCO's ``{"size": [height, width], "counts": text}``, or None without
        masks), in the predictions' order.
    """
    rows = predictions.image_rows()
    heights, widths = predictions.heights_of_instances(), predictions.widths_of_instances()
    names = [category.name for category in predictions.categories]
    rles: list[dict[str, object] | None] = [None] * len(rows)
    if predictions.masks is not None:
        counts = predictions.masks.binarize(THRESHOLD, heights, widths).to_rle(heights, widths)
        rles = [
            {"size": [int(height), int(width)], "counts": text}
            for height, width, text in zip(heights, widths, counts, strict=True)
        ]
    return pd.DataFrame(
        {
            "image": pd.Series([predictions.images.ids[row] for row in rows], dtype=object),
            "label": pd.Series([names[label] for label in predictions.labels], dtype=object),
            "score": predictions.scores.astype(float),
            "box": pd.Series(predictions.boxes.astype(float).tolist(), dtype=object),
            "rle": pd.Series(rles, dtype=object),
        }
    )

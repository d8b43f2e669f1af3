"""The page of a comparison: scores and gains with their intervals, slides, errors and worst images of each set."""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from hubmap_ml.metrics import Comparison, ErrorAnatomy, WorstImage
from hubmap_ml.metrics.error_anatomy import KINDS, SIZES
from hubmap_ml.viz.interval_plot import Range, interval_plot
from hubmap_ml.viz.page import framed_page, section, write_text
from hubmap_ml.viz.tables import COLOURS, Cell, name_cell, number_cell, number_text, plain_table


def write_comparison(
    path: Path,
    comparison: Comparison,
    anatomies: Sequence[ErrorAnatomy],
    worst: Sequence[Sequence[WorstImage]],
    *,
    title: str,
    verdict: str,
    notes: Sequence[str] = (),
) -> Path:
    """Write the page, whole or not at all, and return where it is; arguments as ``render_comparison``."""
    page = render_comparison(comparison, anatomies, worst, title=title, verdict=verdict, notes=notes)
    return write_text(path, page)


def render_comparison(
    comparison: Comparison,
    anatomies: Sequence[ErrorAnatomy],
    worst: Sequence[Sequence[WorstImage]],
    *,
    title: str,
    verdict: str,
    notes: Sequence[str] = (),
) -> str:
    """The page as HTML text; every value is escaped.

    Args:
        comparison: scores and gains.
        anatomies, worst: of each of its sets, in the same order.
        title, verdict, notes: plain text.
    """
    return framed_page(
        title,
        verdict,
        [
            scores_section(comparison),
            gains_section(comparison),
            slides_section(comparison),
            errors_section(comparison, anatomies),
            *(
                worst_section(comparison, number, anatomies[number], part)
                for number, part in enumerate(worst)
            ),
            _how(comparison, notes),
        ],
        styles=("comparison.css",),
    )


def scores_section(comparison: Comparison, title: str = "Scores") -> str:
    """Scores of all sets with their intervals, drawn and as a table."""
    ranges = [
        Range(score.name, score.value, score.on_these, score.on_new, f"set{k % COLOURS}")
        for k, score in enumerate(comparison.scores)
    ]
    rows: list[list[Cell]] = [
        [
            name_cell(k, score.name),
            number_cell(score.value),
            number_cell(score.pooled),
            (score.on_these.in_words(".4f"), "number" if score.on_these.low is not None else "quiet"),
            (score.on_new.in_words(".4f"), "number" if score.on_new.low is not None else "quiet"),
            f"{escape(score.worst_slide)} {number_text(score.worst_value)}" if score.worst_slide else "–",
            (f"{score.n_instances:,}", "number"),
        ]
        for k, score in enumerate(comparison.scores)
    ]
    table = plain_table(
        [
            "set",
            "score|",
            "pooled|",
            "95 % on these slides|",
            "95 % on new slides|",
            "worst slide",
            "instances|",
        ],
        rows,
    )
    folds = (
        f"{comparison.n_folds} folds weighted by images"
        if comparison.n_folds > 1
        else "all images as one fold"
    )
    legend = (
        f'<p class="legend">{escape(comparison.metric)} on {comparison.n_images:,} images with '
        f"{comparison.n_truths:,} truths, {folds}; <b>pooled</b>: all images together. Line: 95 % on these slides; "
        "dashed: on new slides, where it can be estimated.</p>"
    )
    return section(title, interval_plot(ranges) + table + legend)


def gains_section(comparison: Comparison) -> str:
    """Gains over the first set, paired; "" of a single set."""
    if not comparison.gains:
        return ""
    first = comparison.scores[0].name
    ranges = [
        Range(f"{gain.after} − {gain.before}", gain.value, gain.on_these, gain.on_new, f"set{k % COLOURS}")
        for k, gain in enumerate(comparison.gains, start=1)
    ]
    rows: list[list[Cell]] = [
        [
            name_cell(k, gain.after),
            (f"{gain.value:+.4f}", "number " + {"better": "high", "worse": "low"}.get(gain.verdict, "")),
            (gain.on_these.in_words("+.4f"), "number" if gain.on_these.low is not None else "quiet"),
            (gain.on_new.in_words("+.4f"), "number" if gain.on_new.low is not None else "quiet"),
            (f"{100 * gain.probability:.1f} %" if math.isfinite(gain.probability) else "–", "number"),
            f"{escape(gain.worst_slide)} {number_text(gain.worst_value, '+.4f')}"
            if gain.worst_slide
            else "–",
            escape(gain.verdict),
        ]
        for k, gain in enumerate(comparison.gains, start=1)
    ]
    heads = [
        "set",
        "gain|",
        "95 % on these slides|",
        "95 % on new slides|",
        "ahead in|",
        "least on slide",
        "verdict",
    ]
    table = plain_table(heads, rows)
    legend = '<p class="legend"><b>Ahead in</b>: share of the draws on these slides in which it is ahead.</p>'
    return section(
        f"Gain over {first}, paired", interval_plot(ranges, zero=True, form="+.4f") + table + legend
    )


def slides_section(comparison: Comparison) -> str:
    """The table by slide; "" where no slides are known."""
    if not comparison.slides:
        return ""
    rows: list[list[Cell]] = []
    for slide in comparison.slides:
        row: list[Cell] = [
            escape(slide.slide),
            (f"{slide.n_images:,}", "number"),
            (f"{slide.n_truths:,}", "number"),
        ]
        row += [number_cell(value) for value in slide.values]
        for value in slide.values[1:]:
            gain = value - slide.values[0]
            mark = "" if not math.isfinite(gain) or abs(gain) < 5e-5 else "high" if gain > 0 else "low"
            row.append((number_text(gain, "+.4f"), f"number {mark}"))
        rows.append(row)
    names = [score.name for score in comparison.scores]
    heads = ["slide", "images|", "truths|", *(f"{name}|" for name in names)]
    heads += [f"{name} − {names[0]}|" for name in names[1:]]
    return section("By slide", plain_table(heads, rows))


def errors_section(comparison: Comparison, anatomies: Sequence[ErrorAnatomy]) -> str:
    """What each kind of error costs each set, and what it finds."""
    several = len(anatomies[0].categories) > 1
    kinds = [
        (number, kind)
        for number, kind in enumerate(KINDS)
        if several or kind not in ("classification", "both")
    ]
    costs = [kind.cost for anatomy in anatomies for kind in anatomy.kinds if math.isfinite(kind.cost)]
    most = max([*costs, 1e-9])
    rows: list[list[Cell] | str] = []
    for number, name in kinds:
        rows.append(name)
        for k, anatomy in enumerate(anatomies):
            kind = anatomy.kinds[number]
            share = 100 * min(max(kind.cost, 0.0) / most, 1.0) if math.isfinite(kind.cost) else 0.0
            row: list[Cell] = [
                name_cell(k, comparison.scores[k].name),
                (f'<span class="bar" style="width:{share:.1f}%"></span>', f"bars set{k % COLOURS}"),
                number_cell(kind.cost),
                (kind.interval.in_words(".4f"), "number" if kind.interval.low is not None else "quiet"),
                (f"{kind.count:,}", "number"),
                *((f"{count:,}", "number") for count in kind.by_size),
                (f"{kind.count_in_all:,}", "number quiet"),
            ]
            rows.append(row)
    heads = ["kind", "", "costs AP|", "95 %|", "count|", *(f"{size}|" for size in SIZES), "at any score|"]
    words = [
        f"{escape(score.name)}: AP {number_text(anatomy.value)}, {sum(anatomy.found_by_size):,} of "
        f"{sum(anatomy.truths_by_size):,} truths found at score ≥ {number_text(anatomy.score_threshold, '.3f')} "
        f"(the best F1, {anatomy.f1:.3f})"
        for score, anatomy in zip(comparison.scores, anatomies, strict=True)
    ]
    limits = anatomies[0].size_limits
    legend = (
        f'<p class="legend">What AP at IoU {anatomies[0].iou_threshold:g} each kind costs: what would be won if only '
        "it were repaired (TIDE, Bolya et al. 2020); costs do not add up. Counts are detections of at least the score "
        f"with the best F1; medium is from {limits[0]:.0f} pixels, large from {limits[1]:.0f} (thirds of the truths). "
        f"{'; '.join(words)}.</p>"
    )
    return section("Errors", plain_table(heads, rows) + legend + _found(comparison, anatomies, several))


def _found(comparison: Comparison, anatomies: Sequence[ErrorAnatomy], several: bool) -> str:
    """Recall by size and class, and errors by class."""
    rows: list[list[Cell] | str] = []
    for k, anatomy in enumerate(anatomies):
        row: list[Cell] = [name_cell(k, comparison.scores[k].name)]
        row += [
            (f"{found:,} of {truths:,}" + (f" ({100 * found / truths:.0f} %)" if truths else ""), "number")
            for found, truths in [
                *zip(anatomy.found_by_size, anatomy.truths_by_size, strict=True),
                *(zip(anatomy.found_by_class, anatomy.truths_by_class, strict=True) if several else ()),
            ]
        ]
        rows.append(row)
    heads = [f"{name}|" for name in (*SIZES, *(anatomies[0].categories if several else ()))]
    inside = "<h3>Truths found</h3>" + plain_table(["set", *heads], rows)
    if several:
        rows = []
        for number, name in enumerate(KINDS):
            rows.append(name)
            for k, anatomy in enumerate(anatomies):
                counts = anatomy.kinds[number].by_class
                rows.append(
                    [name_cell(k, comparison.scores[k].name), *((f"{count:,}", "number") for count in counts)]
                )
        heads = [f"{name}|" for name in anatomies[0].categories]
        inside += "<h3>Errors by category</h3>" + plain_table(["kind", *heads], rows)
    return inside


def worst_section(
    comparison: Comparison,
    number: int,
    anatomy: ErrorAnatomy,
    worst: Sequence[WorstImage],
    *,
    opened: bool | None = None,
) -> str:
    """The images that cost the set of this number most, open or to be opened; by default the first set's are open."""
    name = comparison.scores[number].name
    if not worst:
        return section(f"Worst images of {name}", '<p class="legend">No image costs score.</p>')
    several = len(anatomy.categories) > 1
    kinds = [k for k, kind in enumerate(KINDS) if several or kind not in ("classification", "both")]
    most = max(image.pull for image in worst)
    slides = any(image.slide for image in worst)
    files = any(image.id not in image.file_name for image in worst if image.file_name)  # else the id says it
    rows: list[list[Cell] | str] = []
    for image in worst:
        row: list[Cell] = [escape(image.id)]
        row += [escape(image.file_name)] if files else []
        row += [escape(image.slide)] if slides else []
        bar = f'<span class="bar" style="width:{100 * image.pull / most:.1f}%"></span>'
        row += [(bar, f"bars set{number % COLOURS}"), (f"{image.pull:+.5f}", "number")]
        row += [(f"{image.truths:,}", "number"), (f"{image.found:,}", "number")]
        row += [(f"{image.errors[k]:,}", "number") for k in kinds]
        rows.append(row)
    heads = ["image", *(["file"] if files else []), *(["slide"] if slides else []), "", "pulls by|"]
    heads += ["truths|", "found|", *(f"{KINDS[k]}|" for k in kinds)]
    legend = (
        f'<p class="legend">The score without the image, less the score with it ({escape(comparison.metric)}); errors '
        "as counted above.</p>"
    )
    count = f"{len(worst)} images" if len(worst) > 1 else "one image"
    table = plain_table(heads, rows)
    first = "".join(("<details", " open" if (number == 0 if opened is None else opened) else "", ">"))
    return section(
        f"Worst images of {name}",
        f"{first}<summary>{count}, the worst first</summary>{table}{legend}</details>",
    )


def _how(comparison: Comparison, notes: Sequence[str]) -> str:
    first = comparison.scores[0]
    sentences = [
        f"On these slides: {first.on_these.words}. What other tiles of the same slides would give.",
        f"On new slides: {first.on_new.words}. What other slides would give.",
        "A draw is scored as the headline is, and gains are paired: both sets are scored on the same draw.",
        *notes,
    ]
    lines = "\n".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return section("How this was made", f'<ul class="notes">\n{lines}\n</ul>')

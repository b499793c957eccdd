"""What shape has interpretability over strength: valley, hump, increasing, decreasing, flat, or *cannot tell*?

The claim under test is a drawing: simple models are easy to read, stronger ones fall into a valley of confused
abstractions, still stronger ones climb out. A dozen models with error bars rarely settle such a claim by eye, and the
usual tests settle it wrongly: a parabola fits a valley to any curve that falls fast and levels off. So the verdict
rests on the order of the models alone (`order_tests`, `calibration`); a monotone curve must exclude a turn worth
speaking of (`exclusion`), and a flat one must be *shown* to be flat. Named curves (`families`) and models left out one
at a time (`deletions`) qualify the verdict and have no veto. What cannot be decided is called so, with the depth that
could have been seen and what it would take to see less (`planning`). Other papers' tests stand beside it with their
faults (`published_tests`).

n is the number of model configurations. Units of one network are not independent, seeds of one configuration are
averaged, and the scatter between seeds is what a point is judged by (`points`).

Limits: a verdict belongs to its strength axis. It survives any monotone rescaling of it, never another order. Strength
is taken as known, scores as normal.
"""

from thalweg.shape.comparison import Comparison, compare
from thalweg.shape.interaction import Models
from thalweg.shape.judging import judge
from thalweg.shape.kinds import KindDifference, at_equal_strength
from thalweg.shape.order_tests import order_restricted_p
from thalweg.shape.reading import ModelTable, read_table, table_of_frame
from thalweg.shape.several import Choice, Curve, judge_curves, judge_table
from thalweg.shape.verdict import Depth, Fit, Scatter, Sensitivity, Verdict

__all__ = [
    "Choice",
    "Comparison",
    "Curve",
    "Depth",
    "Fit",
    "KindDifference",
    "ModelTable",
    "Models",
    "Scatter",
    "Sensitivity",
    "Verdict",
    "at_equal_strength",
    "compare",
    "judge",
    "judge_curves",
    "judge_table",
    "order_restricted_p",
    "read_table",
    "table_of_frame",
]

"""Pictures of a Result or of a comparison, as matplotlib Figures; nothing here touches pyplot or leaves other global state changed.

``overview`` is the hero, ``equity`` one curve, ``page`` everything in panels that share time, ``compare`` many runs, ``panel``
one of PANELS by itself and ``text`` the same in words and tables. Of what ``bt_margin.compare`` returns, ``heatmap``, ``fans``, ``cliff``,
``pareto`` and ``ranked``, also by ``panel`` and ``text``.
Colours are Okabe and Ito's, which colour-blind readers can tell apart; a liquidation is told by its shape and its word
as well. Times are UTC. Long series are thinned to the lows and highs of each step across, so no extreme is lost.
``figure.savefig`` writes them; ``save`` does so with the same bytes every time.
"""

from ..laboratory import PICTURES
from ..panels import PANELS
from .comparison import compare
from .drawing import save
from .laboratory import cliff, fans, heatmap, pareto, ranked
from .pages import equity, headlines, overview, page, panel, text

__all__ = [
    "PANELS",
    "PICTURES",
    "cliff",
    "compare",
    "equity",
    "fans",
    "headlines",
    "heatmap",
    "overview",
    "page",
    "panel",
    "pareto",
    "ranked",
    "save",
    "text",
]

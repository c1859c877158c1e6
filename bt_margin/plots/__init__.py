"""Pictures of a Result, as matplotlib Figures; nothing here touches pyplot or leaves other global state changed.

``overview`` is the hero, ``equity`` one curve, ``page`` everything in panels that share time, ``compare`` many runs.
Colours are Okabe and Ito's, which colour-blind readers can tell apart; a liquidation is told by its shape and its word
as well. Times are UTC. Long series are thinned to the lows and highs of each step across, so no extreme is lost.
``figure.savefig`` writes them; ``save`` does so with the same bytes every time.
"""

from .comparison import compare
from .drawing import save
from .pages import equity, headlines, overview, page

__all__ = ["compare", "equity", "headlines", "overview", "page", "save"]

"""Plain Backtrader strategies, one file each, written for no broker in particular.

None of them imports ``bt_margin``: each runs on stock Backtrader and, unchanged, under the margin broker. Installed as
``bt_margin.strategies``; in a checkout this is the top-level folder ``strategies``.
"""

"""``python -m bt_margin`` is ``bt-margin``."""

from .cli import main

if __name__ == "__main__":
    main()

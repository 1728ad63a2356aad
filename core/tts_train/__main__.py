"""``python -m tts_train``."""

from __future__ import annotations

import sys

from tts_train.cli import main

sys.exit(main())

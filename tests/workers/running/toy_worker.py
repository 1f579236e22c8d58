"""A worker as `tandem worker` runs it, with the toy trainer; its settings come from the environment."""

import sys
from pathlib import Path

from workers import service
from workers.settings import Settings

framework = sys.argv[1] if len(sys.argv) > 1 else "torch"
trainer = [sys.executable, str(Path(__file__).with_name("toy_trainer.py"))]
service.run(Settings(), framework, trainer=trainer)

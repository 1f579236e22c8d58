"""What Tandem costs: each benchmark is a module, `python -m benchmarks.<name>`."""

import os
import sys

# Whatever the shell says, byte code is kept, here and by everyone that a benchmark starts: else each start compiles
# thousands of files anew, which takes longer than all else it does.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

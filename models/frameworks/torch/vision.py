"""torchvision without torch's compiler.

One of its operators, for detection, imports the compiler to ask whether it can be used. That takes several times as
long as everything else in torchvision, and nothing here is compiled. Whoever traces or compiles with torch imports this
module before, so that no thread meets what stands in for the compiler meanwhile.
"""

import sys
from types import ModuleType

COMPILER = "torch._dynamo"
ASKED = f"{COMPILER}.utils"


def _without_compiler() -> None:
    """Import torchvision now; with the compiler where it is there already, or cannot be left out."""
    if COMPILER in sys.modules:
        return
    stand_in = ModuleType(ASKED)
    stand_in.is_compile_supported = lambda device_type: False  # type: ignore[attr-defined]
    sys.modules.update({COMPILER: ModuleType(COMPILER), ASKED: stand_in})
    try:
        __import__("torchvision")
    except (ImportError, AttributeError):  # another release asks for more: the import below tries again
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
    finally:
        del sys.modules[COMPILER], sys.modules[ASKED]


_without_compiler()

import torchvision  # noqa: E402

__all__ = ["torchvision"]

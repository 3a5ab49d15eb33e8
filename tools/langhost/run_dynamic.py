"""The provider process of pulumi.dynamic resources. Run by pulumi-resource-pulumi-python in the project's interpreter.

It is the SDK's own module, plus the watch that ends it with its engine.
"""

from __future__ import annotations

import os
import runpy
import sys

from orphan import exit_with_parent

if __name__ == "__main__":
    exit_with_parent()
    # Providers are loaded by module path from the program's directory, as with `python -m`.
    sys.path[0] = os.getcwd()
    runpy.run_module("pulumi.dynamic", run_name="__main__", alter_sys=True)

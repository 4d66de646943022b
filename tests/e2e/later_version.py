"""The program as it will be: its messages are of the version after this one's. Takes the arguments of `image-processor`."""

import sys
from pathlib import Path

from cli.main import main
from common import messages

LATER_PROGRAM = (sys.executable, str(Path(__file__)))

if __name__ == "__main__":
    messages.VERSION += 1
    main()

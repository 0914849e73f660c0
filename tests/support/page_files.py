"""The files of the page, and its examples as page.js lists them: (file name, label)."""

import re
from pathlib import Path

import runtime

PAGE = Path(runtime.__file__).parent / "serving" / "static"
EXAMPLES = re.findall(r'\["([\w-]+)", "([A-Z][^"]+)"\]', (PAGE / "page.js").read_text())

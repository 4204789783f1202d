"""``python -m nastavnik.mentor FOLDER`` writes a page for every rule."""

import sys

from nastavnik.mentor._pages import write_pages

write_pages(sys.argv[1] if len(sys.argv) > 1 else "docs/rules")

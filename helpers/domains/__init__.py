"""The domains: what there is (published.py), how it is loaded (loading.py) and what a `Domain`
holds (domain.py)."""

from .domain import DATA, Domain
from .loading import EMBEDDED, load_domain, settings_path
from .published import CLIPS, PUBLISHED

__all__ = ["CLIPS", "DATA", "EMBEDDED", "PUBLISHED", "Domain", "load_domain", "settings_path"]

"""Self-contained pages for a browser."""

from __future__ import annotations

import base64
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader

PACKAGE = "mwam_det.robustness"


def render(template: str, package: str = PACKAGE, **values: Any) -> str:
    """Fill a template; values are escaped.

    Args:
        template: A file in the folder "templates" of the package; it may include those of this package, like page.css.
        package: The package.
        **values: Variables of the template.
    """
    loader = ChoiceLoader([PackageLoader(name, "templates") for name in dict.fromkeys((package, PACKAGE))])
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(template).render(**values)


def embedded(picture: bytes) -> str:
    """Return a PNG file as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"

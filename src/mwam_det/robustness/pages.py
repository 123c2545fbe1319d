"""Pages for a browser that need neither a network nor other files."""

from __future__ import annotations

import base64
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader

OWN = "mwam_det.robustness"


def render(template: str, package: str = OWN, **values: Any) -> str:
    """Fill a template; values are text, whatever marks are in them.

    Args:
        template: A file in the folder "templates" of the package, which may include those of this one, like page.css.
        package: The package.
        **values: What stands in the template.
    """
    loader = ChoiceLoader([PackageLoader(name, "templates") for name in dict.fromkeys((package, OWN))])
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(template).render(**values)


def embedded(picture: bytes) -> str:
    """Return a PNG file as the address of an image that holds it."""
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"

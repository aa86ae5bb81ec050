"""The templates of the page; all that they are given is escaped."""

from __future__ import annotations

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape


@cache
def environment() -> Environment:
    """Templates of stages/report/templates. A name that is not given is an error."""
    made = Environment(
        loader=PackageLoader("stages.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["breakable"] = breakable
    return made


def breakable(name: object) -> Markup:
    """A name that may be broken behind `_`, `-`, `.` and `/`, as narrow columns need."""
    return Markup(re.sub(r"([-_./]+)(?=\w)", r"\1<wbr>", str(escape(name))))  # escaped above

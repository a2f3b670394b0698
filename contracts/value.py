"""What do all our messages have in common?"""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

# An amount of money in its currency's major unit, two places at most; a string in JSON, because a float loses cents.
Amount = Annotated[Decimal, Field(max_digits=10, decimal_places=2)]


class Value(BaseModel):
    """A frozen value: snake_case in Python, camelCase in JSON, unknown fields ignored so that N reads N+1."""

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        serialize_by_alias=True,
        extra="ignore",
    )

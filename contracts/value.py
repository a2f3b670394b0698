"""What do all our messages have in common?"""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

# An amount of money in its currency's major unit, two places at most; a string in JSON, because a float loses cents.
Amount = Annotated[Decimal, Field(max_digits=10, decimal_places=2)]
# Many amounts together: what a stadium brings in, in the currency with the smallest unit there is.
Sum = Annotated[Decimal, Field(max_digits=18, decimal_places=2)]

# A share, to the hundredth of a per cent: 0.1900 is 19 per cent. As money it is a string in JSON.
Share = Annotated[Decimal, Field(max_digits=5, decimal_places=4)]

# How a plain dataclass looks on the wire: as a Value does. A hot batch makes thousands of small records, and a dataclass
# costs a fifth of a model to make; as part of a message it is read and written, and checked, all the same.
PLAIN = ConfigDict(alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True, extra="ignore")


class Value(BaseModel):
    """A frozen value: snake_case in Python, camelCase in JSON, unknown fields ignored so that N reads N+1."""

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        serialize_by_alias=True,
        extra="ignore",
    )

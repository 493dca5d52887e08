"""The account behind the key, the API's health, and any other route.

Source: ``GET /v1/whoami``, ``GET /v1/balance`` and ``GET /health``.
"""

from typing import Generic, TypeVar

from asyncsfk.models.base import Answer, Model

T = TypeVar("T")


class User(Model, frozen=True, kw_only=True, gc=False):
    """The owner of the key."""

    id: str
    name: str | None = None
    email: str | None = None


class Whoami(Answer, frozen=True, kw_only=True):
    """Whom the key belongs to; free.

    Attributes:
        user: The owner of the key.
    """

    user: User


class Subscription(Model, frozen=True, kw_only=True, gc=False):
    """The account's plan."""

    tier: str | None = None
    status: str | None = None
    period_end: str | None = None


class Balance(Answer, frozen=True, kw_only=True):
    """What the account can spend, in credits; free.

    Attributes:
        balance: Credits to spend; required, since a missing balance is not 0.
        payg: Credits bought as pay-as-you-go.
        payg_spendable: How many of those can be spent now.
        grace_debt_credits: Credits spent on grace, still to be paid.
        refill_state: ``healthy``, ``grace``, ``exhausted``, or a newer word.
        billing_alert: ``none``, ``payment_action_required``, ``suspended``, or a newer word.
        subscription_included_remaining: Credits of the plan that are left.
        subscription_included_total: Credits of the plan.
        subscription: The plan.
        collection_status: ``current``, ``base_past_due``, ``suspended``, or a newer word.
    """

    balance: int
    payg: int | None = None
    payg_spendable: int | None = None
    grace_debt_credits: int | None = None
    refill_state: str | None = None
    billing_alert: str | None = None
    subscription_included_remaining: int | None = None
    subscription_included_total: int | None = None
    subscription: Subscription | None = None
    collection_status: str | None = None


class Health(Model, frozen=True, kw_only=True):
    """Whether the API is well, by its own account; free, without a key and without an envelope.

    Attributes:
        status: ``ok``, or a newer word.
    """

    status: str


class Reply(Answer, Generic[T], frozen=True, kw_only=True):
    """The answer of any other route.

    ``from_json`` reads its data back as plain JSON data, whatever type was asked for.

    Attributes:
        data: The answer's ``data``, of the type that was asked for.
    """

    data: T

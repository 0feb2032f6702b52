"""WhatsApp: message status and incoming messages, plain and by NXLink SaaS (protocol.md, sections 14, 15, 20).

The vendor's envelope is flat, in contrast to Meta's ``entry[].changes[]``. It has ``statuses``, ``messages`` or
``calls``, each with any number of items; every item becomes a separate event. In the tables an item replaces its list:
``statuses.id`` is ``statuses[].id``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.callbacks import money as _money
from gateway.callbacks.callback import EventSchema, VendorPage
from gateway.callbacks.field_mapping import Field, as_object, coded, objects, phone_number
from gateway.callbacks.fields import (
    Converter,
    Scope,
    code,
    flag,
    identifier,
    integer,
    money,
    number,
    seconds,
    text,
    unchanged,
    words,
    written,
)
from gateway.callbacks.messages import DELIVERY_LINES, settle_delivery
from gateway.callbacks.phones import uncertain
from gateway.callbacks.vocabulary import CATEGORY, KIND, MESSAGE_STATUS

STATUS: Final = unchanged("sent delivered read failed deleted")

#: ``cdr_type`` of a cost: the billed service.
COST_CATEGORY: Final = {
    "1": "message",
    "4": "marketing",
    "5": "utility",
    "6": "authentication",
    "7": "service",
    "8": "free",
    "9": "international_authentication",
    "10": "marketing_lite",
}
CONVERSATION: Final = {
    "authentication_international": "international_authentication",
    "authentication-international": "international_authentication",
    **unchanged(
        "marketing utility authentication service referral_conversion marketing_lite business_initiated",
    ),
}

#: Kinds of incoming messages; ``voice`` is an audio message recorded in the chat.
KINDS: Final = unchanged(
    "text image video voice audio document location sticker button interactive reaction order referral contacts"
)
_MEDIA: Final = ("image", "video", "voice", "audio", "document", "sticker")

#: Of a cost. The pages number it in two ways, and examples of messages disagree with their own.
COST_DIRECTION: Final = "The platform's own code: of a message 1 downlink, 2 uplink, of a call 1 out, 0 in"

_COST_FIELDS: Final = (
    Field("amount", "foreign_price", money, "In `currency`, the customer's"),
    Field("currency", "currency", code, "Of `amount`"),
    Field("amount_cny", "price", money, "The same in the platform's own currency, CNY"),
    *coded("category", "category_code", "cdr_type", words(COST_CATEGORY, CATEGORY)),
    Field("message_id", "message_id", identifier),
    Field("direction_code", "direction", code, COST_DIRECTION),
)

#: The fields around the items, in all their versions.
_ENVELOPE: Final = (
    "app_id",
    "channel",
    "messaging_product",
    "metadata.phone_number_id",
    "wabaId",
    "contacts.profile.username",
    "contacts.wa_id",
    "contacts.user_id",
    "contacts.parent_user_id",
    "business_phone",
    "merchant_phone",
)
_BUSINESS_PHONE: Final = ("business_phone", "merchant_phone", "metadata.display_phone_number")
#: BSUID of a user who hides the number.
_USER_ID: Final = "contacts.user_id"
#: The number of a contact as the sender stored it; its WhatsApp id, the last name, has the country code.
_CONTACT_PHONE: Final = (*phone_number("phone", "phone", read=uncertain), *phone_number("phone", "wa_id"))
_WABA: Final = Field("waba_id", "wabaId", identifier)
_APP: Final = Field("app_id", "app_id", identifier)


def sum_of(costs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the total price of several costs, if they have one currency, and their total in CNY."""
    price: dict[str, str] = {}
    currencies = {cost.get("currency") for cost in costs}
    if len(currencies) == 1 and all("amount" in cost for cost in costs):
        price["total"] = _money.total([cost["amount"] for cost in costs])
        (currency,) = currencies
        if currency:
            price["currency"] = currency
    if all("amount_cny" in cost for cost in costs):
        price["amount_cny"] = _money.total([cost["amount_cny"] for cost in costs])
    return price


def _add_up(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Set the price from ``costs``, which may have several entries for one message.

    A currency belongs to ``foreign_price``: an entry without it has an amount in CNY and no currency.
    """
    costs = data.get("costs")
    if not costs:
        return
    for cost in costs:
        if "amount" not in cost:
            cost.pop("currency", None)
    price = sum_of(costs)
    if price:
        data["price"] = price


def _foreign_only(data: dict[str, Any], source: Mapping[str, Any], scope: Scope) -> None:
    """Remove a currency without ``foreign_price``, to which it belongs."""
    price = data.get("price")
    if price is not None and "total" not in price:
        price.pop("currency", None)
        if not price:
            del data["price"]


STATUS_SCHEMA: Final = EventSchema(
    "nxcloud.whatsapp.status",
    "message.status",
    "WhatsApp message status",
    page=VendorPage("WhatsApp API webhook", "14"),
    required="message_id",
    time=("at",),
    constants={"channel": "whatsapp", "product": "whatsapp"},
    known=(*_ENVELOPE, "statuses.type", "statuses.message", "statuses.conversation"),
    post_process=(_add_up, settle_delivery),
    fields=(
        Field("message_id", "statuses.id", identifier, "As returned by the send call, or the customer's own id"),
        Field("platform_message_id", "statuses.meta_message_id", identifier, "Meta's; use it to quote the message"),
        *phone_number("from", _BUSINESS_PHONE),
        *phone_number("to", ("statuses.recipient_id", "statuses.message.recipient_id", "contacts.wa_id")),
        Field("to", _USER_ID, identifier, "Of an anonymous user, who shows no number"),
        Field("to_user_id", _USER_ID, identifier),
        Field("to_name", "contacts.profile.name", text),
        *coded("status", "status_code", "statuses.status", words(STATUS, MESSAGE_STATUS)),
        *DELIVERY_LINES,
        Field("error.code", "statuses.errors.code", code),
        Field("error.title", "statuses.errors.title", text),
        Field("error.platform_code", "statuses.errors.meta_code", code, "Meta's code"),
        Field("conversation.id", "statuses.conversation.id", identifier),
        *coded(
            "conversation.category",
            "conversation.category_code",
            "statuses.conversation.origin.type",
            words(CONVERSATION, CATEGORY),
        ),
        Field("conversation.expires_at", "statuses.conversation.expiration_timestamp", seconds),
        Field("pricing.billable", "statuses.pricing.billable", flag),
        Field("pricing.model", "statuses.pricing.pricing_model", text, "Such as PMP, by message, or CBP"),
        Field("pricing.type", "statuses.pricing.type", text, "Such as regular, free_customer_service"),
        *coded(
            "pricing.category",
            "pricing.category_code",
            "statuses.pricing.category",
            words(CONVERSATION, CATEGORY),
        ),
        Field("costs", "statuses.costs", objects(*_COST_FIELDS)),
        Field("price.total", "", money, "Sum of the costs, where they have one currency"),
        Field("price.currency", "", code, "The one currency of the costs"),
        Field("price.amount_cny", "", money, "Sum of the costs"),
        Field("at", "statuses.timestamp", seconds),
        Field("ext", "statuses.biz_opaque_callback_data", text, "Tracking data of the send call"),
        _WABA,
        _APP,
    ),
)


def _answers(value: Any, scope: Scope) -> dict[str, Any]:
    """Return the object in a JSON string."""
    found = as_object(value)
    if found is None:
        raise ValueError("not an object")
    return found


_ANSWERS: Final = Converter("object", _answers, {"type": "object"})

#: The content of a message of either direction.
CONTENT: Final = (
    *coded("kind", "kind_code", "messages.type", words(KINDS, KIND)),
    Field("text", "messages.text.body", written),
    *(
        Field(f"media.{ours}", tuple(f"messages.{kind}.{ours}" for kind in _MEDIA), convert)
        for ours, convert in (
            ("id", identifier),
            ("mime_type", text),
            ("sha256", text),
            ("caption", written),
            ("filename", text),
        )
    ),
    Field("location.latitude", "messages.location.latitude", number),
    Field("location.longitude", "messages.location.longitude", number),
    Field("location.name", "messages.location.name", text),
    Field("location.address", "messages.location.address", text),
    Field("location.url", "messages.location.url", text),
    Field(
        "reply.id",
        (
            "messages.button.payload",
            "messages.interactive.button_reply.id",
            "messages.interactive.list_reply.id",
        ),
        text,
    ),
    Field(
        "reply.title",
        (
            "messages.button.text",
            "messages.interactive.button_reply.title",
            "messages.interactive.list_reply.title",
        ),
        written,
    ),
    Field("form_reply.name", "messages.interactive.nfm_reply.name", text, "Such as flow"),
    Field("form_reply.text", "messages.interactive.nfm_reply.body", written),
    Field("form_reply.token", "", text, "`flow_token` of the answers"),
    Field("form_reply.response", "messages.interactive.nfm_reply.response_json", _ANSWERS),
    Field("reply.description", "messages.interactive.list_reply.description", written),
    Field("reaction.message_id", "messages.reaction.message_id", identifier),
    Field("reaction.emoji", "messages.reaction.emoji", text, "Absent when a reaction is taken back"),
    Field("order.catalog_id", "messages.order.catalog_id", identifier),
    Field("order.text", "messages.order.text", written),
    Field(
        "order.items",
        "messages.order.product_items",
        objects(
            Field("product_id", "product_retailer_id", identifier, "The shop's id of the product"),
            Field("quantity", "quantity", integer, "Pieces"),
            Field("price", "item_price", money, "Of one piece"),
            Field("currency", "currency", code, "Of the price"),
        ),
    ),
    Field(
        "contacts",
        "messages.contacts",
        objects(
            Field("name", ("name.formatted_name", "name.first_name"), text, "Name of the contact"),
            Field(
                "phones",
                "phones",
                objects(*_CONTACT_PHONE, Field("label", "type", text, "Such as CELL, WORK")),
                "Numbers of the contact",
            ),
            known=("emails", "addresses", "org", "urls", "birthday", "name"),
        ),
    ),
    Field("reply_to.message_id", "messages.context.id", identifier),
    *phone_number("reply_to.from", "messages.context.from"),
)
#: Documented fields of a message without a line.
CONTENT_KNOWN: Final = ("messages.referral", "messages.interactive.type", "messages.sticker.metadata")


def kind_of_content(data: dict[str, Any], source: Any, scope: Scope) -> None:
    """Set the kind of a message without a ``type`` from its content, and copy a form's token from its answers.

    Args:
        data: of the event; changed in place.
        source: the vendor's fields.
        scope: of the callback.
    """
    message = source["messages"]
    if "kind" not in data:
        kind = next((name for name in KINDS if message.get(name) not in (None, "")), None)
        if kind is not None:
            data["kind"] = KINDS[kind]
            data["kind_code"] = kind
    reply = data.get("form_reply")
    if reply is not None:
        token = reply.get("response", {}).get("flow_token")
        if type(token) is str:
            reply["token"] = token


MESSAGE_SCHEMA: Final = EventSchema(
    "nxcloud.whatsapp.message",
    "message.incoming",
    "Incoming WhatsApp message",
    page=VendorPage("WhatsApp API webhook", "15, 20"),
    required="message_id",
    key=("from", "message_id"),
    time=("sent_at",),
    constants={"channel": "whatsapp", "product": "whatsapp"},
    known=(
        *_ENVELOPE,
        *CONTENT_KNOWN,
        "messages.wa_ext.components",
        "messages.cost.cdr_type",
        "messages.cost.message_id",
        "messages.cost.direction",
    ),
    post_process=(kind_of_content, _foreign_only),
    fields=(
        Field("message_id", "messages.id", identifier, "Use it to mark the message as read"),
        *phone_number("from", ("messages.from", "contacts.wa_id")),
        Field("from", _USER_ID, identifier, "Of an anonymous user"),
        Field("from_user_id", _USER_ID, identifier),
        *phone_number("to", _BUSINESS_PHONE),
        Field("sender_name", ("contacts.profile.name", "contacts.profile.username"), text),
        *CONTENT,
        Field("price.total", "messages.cost.foreign_price", money),
        Field("price.currency", "messages.cost.currency", code),
        Field("price.amount_cny", "messages.cost.price", money),
        Field("tag", "messages.tag_name", text),
        Field("template.id", "messages.wa_ext.templateId", identifier),
        Field("template.name", "messages.wa_ext.templateName", text),
        Field("sent_at", "messages.timestamp", seconds),
        _WABA,
        _APP,
    ),
)

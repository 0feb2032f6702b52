"""The words of the model: one vocabulary for each name, in all event types (design.md 6).

A table of codes (``words`` in :mod:`gateway.callbacks.fields`) with a word that is not here is refused, so two products
cannot have two words for one meaning. Minor versions may add words, and never rename them.
"""

from __future__ import annotations

from typing import Final

Vocabulary = frozenset[str]

#: The medium.
CHANNEL: Final[Vocabulary] = frozenset({"sms", "whatsapp", "viber", "line", "zalo", "messenger", "email", "voice"})

#: Of an SMS.
SMS_STATUS: Final[Vocabulary] = frozenset(
    {
        "delivered",
        "undelivered",
        "rejected",
        "expired",
        "deleted",
        "dnd",
        "invalid_sender",
        "invalid_recipient",
    }
)
#: Of a message on any other channel.
MESSAGE_STATUS: Final[Vocabulary] = frozenset(
    {
        "sent",
        "delivered",
        "read",
        "failed",
        "undelivered",
        "expired",
        "deleted",
        "journey_acknowledged",
        "journey_timed_out",
    }
)
EMAIL_STATUS: Final[Vocabulary] = frozenset({"delivered", "undelivered"})
VERIFY_STATUS: Final[Vocabulary] = frozenset({"success", "pending", "mismatch", "failure"})
TASK_STATUS: Final[Vocabulary] = frozenset({"waiting", "running", "completed", "failed", "paused", "paused_no_balance"})
#: Of a template, an account, a number or a flow.
CHANNEL_STATUS: Final[Vocabulary] = frozenset(
    {
        "approved",
        "rejected",
        "paused",
        "disabled",
        "pending",
        "pending_deletion",
        "deleted",
        "flagged",
        "in_appeal",
        "reinstated",
        "archived",
        "unarchived",
        "limit_exceeded",
        "locked",
        "unlocked",
        "violation",
        "restricted",
        "partner_added",
        "partner_removed",
        "verified",
        "deferred",
        "draft",
        "published",
        "deprecated",
        "blocked",
        "throttled",
    }
)
#: Of ``channel.event``: WhatsApp's names of events, which are words, and LINE's in the same spelling.
CHANNEL_EVENT: Final[Vocabulary] = frozenset(
    {
        "message_template_status_update",
        "message_template_quality_update",
        "template_category_update",
        "account_update",
        "account_review_update",
        "phone_number_name_update",
        "phone_number_quality_update",
        "user_preferences",
        "smb_app_state_sync",
        "history",
        "smb_message_echoes",
        "flows",
        "follow",
        "unfollow",
        "join",
        "leave",
        "member_joined",
        "member_left",
        "postback",
        "unsend",
        "video_play_complete",
        "beacon",
        "account_link",
        "things",
        "membership",
    }
)
CHECK_STATUS: Final[Vocabulary] = frozenset(
    {
        "ok",
        "internal_error",
        "bad_value",
        "backend_error",
        "bad_number_format",
        "not_mobile",
        "not_found",
        "not_charged",
    }
)

CALL_STATE: Final[Vocabulary] = frozenset(
    {"created", "ringing", "answered", "in_call", "ended", "agent_waiting", "agent_ended"}
)
#: The platform's names of the end of a privacy-number call.
CALL_STATUS: Final[Vocabulary] = frozenset({"ended", "ended_abnormally"})
OUTCOME: Final[Vocabulary] = frozenset(
    {"answered", "no_answer", "busy", "rejected", "cancelled", "failed", "voicemail"}
)
DIRECTION: Final[Vocabulary] = frozenset({"inbound", "outbound"})
HANGUP_BY: Final[Vocabulary] = frozenset({"caller", "callee", "agent", "customer", "system"})
LEG: Final[Vocabulary] = frozenset({"agent", "call"})
#: The purpose of a voice message.
PURPOSE: Final[Vocabulary] = frozenset({"broadcast", "notification", "verification_or_notification"})

#: The type of a message.
KIND: Final[Vocabulary] = frozenset(
    {
        "text",
        "image",
        "video",
        "voice",
        "audio",
        "document",
        "file",
        "location",
        "sticker",
        "button",
        "interactive",
        "reaction",
        "order",
        "referral",
        "contacts",
    }
)
#: The billing category of a message or a conversation.
CATEGORY: Final[Vocabulary] = frozenset(
    {
        "message",
        "marketing",
        "utility",
        "authentication",
        "service",
        "free",
        "international_authentication",
        "marketing_lite",
        "referral_conversion",
        "business_initiated",
    }
)
TEMPLATE_CATEGORY: Final[Vocabulary] = frozenset({"marketing", "utility", "authentication"})
QUALITY: Final[Vocabulary] = frozenset({"green", "yellow", "red"})
NUMBER_TYPE: Final[Vocabulary] = frozenset(
    {
        "other",
        "fixed",
        "mobile",
        "toll_free",
        "voip",
        "organisation",
        "special_private",
        "voicemail",
        "special_restricted",
        "invalid",
    }
)
YES_NO: Final[Vocabulary] = frozenset({"yes", "no"})
BAN: Final[Vocabulary] = frozenset({"disabled", "reinstated", "scheduled"})
CONTACT_ACTION: Final[Vocabulary] = frozenset({"add", "remove"})
PREFERENCE: Final[Vocabulary] = frozenset({"stop", "resume"})

"""The words of the model: one vocabulary for each name, in all event types (design.md 6).

A table of codes (``words`` in :mod:`gateway.callbacks.fields`) with a word that is not here is refused, so two products
cannot have two words for one meaning. Minor versions may add words, and never rename them.
"""

from __future__ import annotations

from typing import Final

Vocabulary = frozenset[str]


def _words(text: str) -> Vocabulary:
    return frozenset(text.split())


#: The medium.
CHANNEL: Final = _words("sms whatsapp viber line zalo messenger email voice")

#: Of an SMS.
SMS_STATUS: Final = _words("delivered undelivered rejected expired deleted dnd invalid_sender invalid_recipient")
#: Of a message on any other channel.
MESSAGE_STATUS: Final = _words(
    "sent delivered read failed undelivered expired deleted journey_acknowledged journey_timed_out"
)
EMAIL_STATUS: Final = _words("delivered undelivered")
VERIFY_STATUS: Final = _words("success pending mismatch failure")
TASK_STATUS: Final = _words("waiting running completed failed paused paused_no_balance")
#: Of a template, an account, a number or a flow.
CHANNEL_STATUS: Final = _words(
    "approved rejected paused disabled pending pending_deletion deleted flagged in_appeal reinstated archived "
    "unarchived limit_exceeded locked unlocked violation restricted partner_added partner_removed verified "
    "deferred draft published deprecated blocked throttled"
)
#: Of ``channel.event``: WhatsApp's names of events, which are words, and LINE's in the same spelling.
CHANNEL_EVENT: Final = _words(
    "message_template_status_update message_template_quality_update template_category_update account_update "
    "account_review_update phone_number_name_update phone_number_quality_update user_preferences "
    "smb_app_state_sync history smb_message_echoes flows follow unfollow join leave member_joined member_left "
    "postback unsend video_play_complete beacon account_link things membership"
)
CHECK_STATUS: Final = _words(
    "ok internal_error bad_value backend_error bad_number_format not_mobile not_found not_charged"
)

CALL_STATE: Final = _words("created ringing answered in_call ended agent_waiting agent_ended")
#: The platform's names of the end of a privacy-number call.
CALL_STATUS: Final = _words("ended ended_abnormally")
OUTCOME: Final = _words("answered no_answer busy rejected cancelled failed voicemail")
DIRECTION: Final = _words("inbound outbound")
HANGUP_BY: Final = _words("caller callee agent customer system")
LEG: Final = _words("agent call")
#: The purpose of a voice message.
PURPOSE: Final = _words("broadcast notification verification_or_notification")

#: The type of a message.
KIND: Final = _words(
    "text image video voice audio document file location sticker button interactive reaction order referral contacts"
)
#: The billing category of a message or a conversation.
CATEGORY: Final = _words(
    "message marketing utility authentication service free international_authentication marketing_lite "
    "referral_conversion business_initiated"
)
TEMPLATE_CATEGORY: Final = _words("marketing utility authentication")
QUALITY: Final = _words("green yellow red")
NUMBER_TYPE: Final = _words(
    "other fixed mobile toll_free voip organisation special_private voicemail special_restricted invalid"
)
YES_NO: Final = _words("yes no")
BAN: Final = _words("disabled reinstated scheduled")
CONTACT_ACTION: Final = _words("add remove")
PREFERENCE: Final = _words("stop resume")

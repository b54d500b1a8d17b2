//! Tells people: outbox and webhook.

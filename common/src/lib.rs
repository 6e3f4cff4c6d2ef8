//! What both programs of Cerebrum share: wire formats, HTTP serving core, settings, TLS, keys, lifecycle, telemetry.

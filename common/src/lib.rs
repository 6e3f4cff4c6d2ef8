//! What both programs of Cerebrum share.
//!
//! - [`wire`]: the only place that knows JSON, SSE and postcard shapes.
//! - [`serve`]: the hyper accept loop, its limits and deadlines, refusals and their status codes.
//! - [`program`]: arguments, settings, log, work, and the exit code.
//! - [`settings`], [`tls`], [`pki`], [`keys`], [`keyring`], [`lifecycle`], [`telemetry`]: leaves that know nothing of requests.
//! - [`event_log`]: answers that outlive their connection.
//! - [`fetch`]: files from the web.
//! - [`watchdog`]: tells systemd that requests are being served.
//! - [`corpus`]: folders of settings files, for tests.
//!
//! Nothing here knows a prompt's meaning, a model or a lamp.

pub mod corpus;
pub mod event_log;
pub mod fetch;
pub mod key_use;
pub mod keyring;
pub mod keys;
pub mod lifecycle;
pub mod pki;
pub mod program;
pub mod request_id;
pub mod serve;
pub mod settings;
pub mod telemetry;
pub mod tls;
pub mod watchdog;
pub mod wire;

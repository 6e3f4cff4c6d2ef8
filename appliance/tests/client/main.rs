//! The client against a stub: a loopback HTTP server that plays the appliance by a script. The library is driven where
//! bytes and connections matter, the real program where output, exit codes, signals and terminals do.

#![expect(clippy::unwrap_used, reason = "what cannot be unwrapped is a failed test")]

mod complete;
mod connection;
mod key;
mod program;
mod repl;
mod reports;
mod stub;

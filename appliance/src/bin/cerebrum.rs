//! `cerebrum`: the command-line client. Everything it does is in the library's `client` module.

use std::process::ExitCode;

fn main() -> ExitCode {
    cerebrum_appliance::client::main(std::env::args_os())
}

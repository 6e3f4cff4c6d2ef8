//! Who calls: deny by default.

use cerebrum_common::keyring::Keyring;
use cerebrum_common::keys::Client;
use cerebrum_common::serve::Refusal;
use http::HeaderMap;

/// The caller, where its key is known (or none is needed).
///
/// # Errors
/// [`Refusal::Denied`].
pub fn authenticate(keys: &Keyring, headers: &HeaderMap) -> Result<Client, Refusal> {
    Ok(keys.authenticate(headers)?)
}

//! `cerebrum-server models`: what there is, and how it gets there.
//!
//! Owns the folder of models as files: installing (from the web, from a file, from a package), verifying, packing, removing.
//! Whatever goes wrong, a name without a leading dot belongs to whole weights only, so a running server never sees half a
//! model. It needs no notice either: it reads the folder's listing anew for every request that names a model.
//!
//! Never loads a model.

mod catalogue;
mod command;
mod draft;
mod error;
mod folder;
mod manifest;
mod package;
mod progress;
mod pull;
mod source;

pub use cerebrum_common::fetch::Patience;
pub use command::{Request, carry_out};
pub use draft::Draft;
pub use error::ModelError;
pub use folder::{Folder, Listed, Name, is_package};
pub use manifest::Manifest;
pub(crate) use manifest::hex;
pub use package::{Package, Packing, Report, pack};
pub use progress::Progress;
pub use pull::{Pull, Pulled};
pub use source::Source;

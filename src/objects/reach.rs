//! Stores as the environment says how to reach them.

use std::ffi::OsString;

use object_store::path::Path;
use object_store::{ClientOptions, Error as StoreError, ObjectStore};
use url::Url;

use super::place::STORE_SCHEMES;

/// Prefixes of the environment variables that say how a store is reached.
const VARIABLES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// The store of a URL, and the place in it.
///
/// # Errors
/// The URL names no known kind of store, or the environment lacks what is needed to reach it.
pub(crate) fn reach(url: &Url) -> Result<(Box<dyn ObjectStore>, Path), StoreError> {
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let ours = |(name, _): &(String, String)| VARIABLES.iter().any(|start| name.starts_with(start));
    object_store::parse_url_opts(url, std::env::vars_os().filter_map(text).filter(ours))
}

/// Whether a URL's scheme is that of an object store.
pub(crate) fn names_store(url: &Url) -> bool {
    STORE_SCHEMES.contains(&url.scheme())
}

/// A server's file as a store that has nothing else, at the empty path.
///
/// # Errors
/// The URL is none, or no client can be made.
pub(super) fn reach_web(url: &str) -> Result<Box<dyn ObjectStore>, StoreError> {
    let options = ClientOptions::new().with_allow_http(true);
    let store = object_store::http::HttpBuilder::new().with_url(url).with_client_options(options).build()?;
    Ok(Box::new(store))
}

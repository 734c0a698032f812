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
    let options: Vec<(String, String)> = std::env::vars_os().filter_map(text).filter(ours).collect();
    refuse_unusable(&options)?;
    object_store::parse_url_opts(url, options)
}

/// Fails where a variable is none that a client can take: it would panic.
fn refuse_unusable(options: &[(String, String)]) -> Result<(), StoreError> {
    let is_url = |value: &str| {
        let url = Url::parse(value).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
        url.is_some_and(|url| url.host().is_some()) && !value.contains(char::is_whitespace)
    };
    let is_usable = |(name, value): &&(String, String)| {
        let names_url = ["ENDPOINT", "ENDPOINT_URL", "ENDPOINT_URL_S3"].iter().any(|end| name.ends_with(end));
        !value.contains(char::is_control) && (!names_url || value.is_empty() || is_url(value))
    };
    match options.iter().find(|option| !is_usable(option)) {
        None => Ok(()),
        // A key is not shown.
        Some((name, _)) => Err(StoreError::Generic { store: "store", source: format!("{name} {UNUSABLE}").into() }),
    }
}

/// What is said of a variable that cannot be used.
pub(super) const UNUSABLE: &str = "in the environment cannot be used";

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_no_client_takes_are_named_without_their_values() {
        let of = |name: &str, value: &str| refuse_unusable(&[(name.to_owned(), value.to_owned())]);
        for value in ["nonsense", "http://", "127.0.0.1:5077", "http://a b", "ftp://host"] {
            let said = of("AWS_ENDPOINT_URL", value).unwrap_err().to_string();
            assert!(said.contains("AWS_ENDPOINT_URL in the environment"), "{said}");
        }
        let said = of("AWS_ACCESS_KEY_ID", "a\nsecret").unwrap_err().to_string();
        assert!(said.contains("AWS_ACCESS_KEY_ID") && !said.contains("secret"), "{said}");
        assert!(of("AWS_ENDPOINT_URL", "http://127.0.0.1:9000").is_ok() && of("AWS_REGION", "eu central").is_ok());
    }
}

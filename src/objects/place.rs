//! URLs of places in stores. Pure.

use crate::error::{Error, Result};

/// URL schemes that name an object store.
pub(super) const STORE_SCHEMES: [&str; 8] = ["s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl"];
/// URL schemes of single files on a server.
const WEB_SCHEMES: [&str; 2] = ["http", "https"];
/// What stands for what is not shown.
const HIDDEN: &str = "…";

/// Whether an input is named by a URL.
pub(crate) fn is_url(input: &str) -> bool {
    input.split_once("://").is_some_and(|(scheme, _)| {
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
        scheme.starts_with(|letter: char| letter.is_ascii_alphabetic()) && scheme.chars().all(is_letter)
    })
}

/// A URL as it may be shown and recorded: without a password, and of a server without what follows a question mark,
/// which may be a signature.
pub(crate) fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = match host.rsplit_once('@') {
        Some((user, host)) if user.contains(':') || WEB_SCHEMES.contains(&scheme) => format!("{HIDDEN}@{host}"),
        _ => host.to_owned(),
    };
    let path = match path.find(['?', '#']) {
        Some(at) if !STORE_SCHEMES.contains(&scheme) => format!("{}?{HIDDEN}", &path[..at]),
        _ => path.to_owned(),
    };
    format!("{scheme}://{host}{path}")
}

/// A place: a bucket and a key in it, or a file on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StorePlace {
    /// `s3://bucket`; of a server the whole URL.
    pub(super) base: String,
    /// As the store has it, without `/` at its ends: nothing in it is an escape. Of a server empty.
    pub(crate) key: String,
    /// Whether the key is written as a folder's.
    pub(crate) is_folder: bool,
    pub(crate) is_web: bool,
}

impl StorePlace {
    /// Parses a URL.
    ///
    /// # Errors
    /// It names no kind of store, no bucket, or a password.
    pub(crate) fn parse(url: &str) -> Result<StorePlace> {
        let wrong = |found: &str| {
            Error::input("the URL of an input is not understood")
                .path(shown(url))
                .expected("s3://BUCKET/KEY, gs://BUCKET/KEY, az://CONTAINER/KEY, abfss://…, or https://HOST/FILE")
                .found(found)
                .remedy("correct the URL, or copy the files to a local disk")
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("no URL"))?;
        let host = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        let is_web = WEB_SCHEMES.contains(&scheme);
        if !is_web && !STORE_SCHEMES.contains(&scheme) {
            let remedy = if scheme == "file" { "name the path itself" } else { "copy the files to a local disk" };
            return Err(wrong(&format!("the scheme {scheme}")).remedy(remedy));
        }
        if host.is_empty() {
            return Err(wrong("no bucket or host"));
        }
        if host.rsplit_once('@').is_some_and(|(user, _)| user.contains(':') || is_web) {
            return Err(wrong("a user or a password in the URL")
                .remedy("take it out: credentials are read from the environment, and of a server none"));
        }
        if is_web {
            return Ok(StorePlace { base: url.to_owned(), key: String::new(), is_folder: false, is_web });
        }
        let key = &rest[host.len()..];
        let is_folder = key.is_empty() || key.ends_with('/');
        let key = key.trim_matches('/').to_owned();
        Ok(StorePlace { base: format!("{scheme}://{host}"), key, is_folder, is_web })
    }

    /// The URL of a key in the same bucket.
    pub(crate) fn url_of(&self, key: &str) -> String {
        if self.is_web { shown(&self.base) } else { format!("{}/{key}", self.base) }
    }

    /// Its own URL.
    pub(crate) fn url(&self) -> String {
        self.url_of(&self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_bucket_and_a_key() {
        let of = |url: &str| StorePlace::parse(url).map(|place| (place.base, place.key, place.is_folder));
        let is = |base: &str, key: &str, is_folder| (base.to_owned(), key.to_owned(), is_folder);
        assert_eq!(of("s3://b/x/a%2Fb c?#.parquet").unwrap(), is("s3://b", "x/a%2Fb c?#.parquet", false));
        assert_eq!(of("gs://b/x/").unwrap(), is("gs://b", "x", true));
        assert_eq!(of("az://b").unwrap(), is("az://b", "", true));
        let abfs = "abfss://box@name.dfs.core.windows.net";
        assert_eq!(of(&format!("{abfs}/a/b")).unwrap(), is(abfs, "a/b", false));
        assert_eq!(of("https://h/a.parquet?x=1").unwrap(), is("https://h/a.parquet?x=1", "", false));
        assert_eq!(StorePlace::parse("https://h/a.parquet?x=1").unwrap().url(), "https://h/a.parquet?…");
        for (wrong, word) in [("ftp://h/x", "scheme ftp"), ("s3:///x", "no bucket"), ("file:///x", "the path itself")] {
            let text = StorePlace::parse(wrong).unwrap_err().to_string();
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert!(is_url("s3://b") && is_url("svn+ssh://x") && !is_url("/a/b://c") && !is_url("data/x.parquet"));
        for url in ["https://me:secret@h/a", "s3://me:secret@b/a", "ftp://me:secret@h/a", "https://secret@h/a"] {
            let text = StorePlace::parse(url).unwrap_err().to_string();
            assert!(!text.contains("secret") && text.contains('a'), "{text}");
            assert!(!shown(url).contains("secret"));
        }
        assert_eq!(shown("https://h/a?X-Amz-Signature=secret"), "https://h/a?…");
        assert_eq!(shown("abfss://box@name/a"), "abfss://box@name/a");
        assert_eq!(shown("s3://b/a?b"), "s3://b/a?b");
    }
}

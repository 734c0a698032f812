//! The errors of stores, in words.

use object_store::Error as StoreError;

use super::reach::UNUSABLE;
use crate::error::{Error, Result};

/// An error with all its causes: the store's own message comes last.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut under = error.source();
    while let Some(cause) = under {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        under = cause.source();
    }
    text
}

/// The error for a file that cannot be read from a store. `url`: as it may be shown; `secret`: what the store's words
/// may contain and nobody may see.
pub(super) fn unreadable(url: &str, secret: Option<&str>, error: &StoreError) -> Error {
    let found = match secret {
        Some(secret) => causes(error).replace(secret, "…"),
        None => causes(error),
    };
    let is = |words: &str| found.contains(words);
    let refused = "check the credentials in the environment (AWS_…, GOOGLE_…, AZURE_…) and what they may read; of a \
                   public bucket of S3 set AWS_SKIP_SIGNATURE=true";
    let (what, expected, remedy) = match error {
        StoreError::NotFound { .. } => (
            "there is no such file in the store",
            "a Parquet file, a folder of them, or a glob",
            "check the bucket and the key, and with them the region and the endpoint (AWS_REGION, AWS_ENDPOINT_URL)",
        ),
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
            ("the store refuses to show the file", "credentials that may read and list it", refused)
        }
        StoreError::Precondition { .. } => return changed(url, "another version than at the beginning"),
        _ if is("incorrectly configured region") || is("AuthorizationHeaderMalformed") => (
            "the store refuses to show the file",
            "the region in which the bucket lies",
            "set AWS_REGION to the bucket's region",
        ),
        _ if is("non-partial response") || is("Range request not supported") => (
            "the server does not send parts of a file",
            "a server that takes requests for a range of bytes",
            "download the file, and name the local one",
        ),
        _ if is(UNUSABLE) => (
            "the store cannot be reached as the environment says",
            "a URL such as https://HOST in AWS_ENDPOINT_URL, and keys without line breaks",
            "correct the variable",
        ),
        _ if is("URL scheme is not allowed") => (
            "the store is reached without encryption, which was not asked for",
            "an endpoint that begins with https://",
            "set AWS_ALLOW_HTTP=true if the endpoint (AWS_ENDPOINT_URL) may be plain http",
        ),
        _ if is("NoSuchBucket") => (
            "there is no such bucket",
            "a bucket that the credentials may read",
            "check the bucket's name, and with it the region and the endpoint (AWS_REGION, AWS_ENDPOINT_URL)",
        ),
        _ if is("169.254.169.254") || is("metadata.google") => (
            "the store cannot be reached without credentials",
            "credentials in the environment, or a machine that has a role",
            refused,
        ),
        _ => (
            "a file in a store cannot be read",
            "a store that answers",
            "fix the cause and run the same command again: finished parts are kept",
        ),
    };
    let error = match error {
        StoreError::NotFound { .. } | StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
            Error::input(what)
        }
        _ if [UNUSABLE, "URL scheme is not allowed", "NoSuchBucket"].into_iter().any(is) => Error::input(what),
        _ => Error::runtime(what),
    };
    error.path(url).expected(expected).found(found).remedy(remedy)
}

/// The error for a file that is another one than at the beginning.
pub(super) fn changed(url: &str, found: &str) -> Error {
    Error::input("an input file changed while it was read")
        .path(url)
        .expected("files that stay as they are")
        .found(found)
        .remedy("run again when the file is complete")
}

/// The error for a store that does not answer.
pub(super) fn silent(url: &str, seconds: u64) -> Error {
    Error::runtime("a file in a store cannot be read")
        .path(url)
        .expected("a store that answers")
        .found(format!("no answer in {seconds} seconds"))
        .remedy(
            "check the network, the endpoint and the credentials in the environment (AWS_…, GOOGLE_…, AZURE_…; without \
             any the machine's role is asked for), and run the same command again: finished parts are kept",
        )
}

/// The same error once more, for another reader of the same file.
pub(super) fn again(error: &Error) -> Error {
    let parts = error.details();
    let mut copy = Error::new(parts.kind, parts.what.clone());
    if let Some(path) = &parts.path {
        copy = copy.path(path);
    }
    if let Some(expected) = &parts.expected {
        copy = copy.expected(expected.clone());
    }
    if let Some(found) = &parts.found {
        copy = copy.found(found.clone());
    }
    match &parts.remedy {
        Some(remedy) => copy.remedy(remedy.clone()),
        None => copy,
    }
}

/// The URL parsed.
///
/// # Errors
/// It is none.
pub(super) fn parsed(base: &str, shown: &str) -> Result<url::Url> {
    url::Url::parse(base).map_err(|e| {
        Error::input("the URL of an input is not understood")
            .path(shown)
            .expected("a URL such as s3://BUCKET/KEY")
            .found(e.to_string())
            .remedy("correct the URL")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_store_are_shown_without_secrets() {
        let of = |text: &str| StoreError::Generic { store: "S3", source: text.into() };
        let text = unreadable("https://h/a?…", Some("sig=secret"), &of("GET https://h/a?sig=secret")).to_string();
        assert!(!text.contains("secret") && text.contains("finished parts are kept"), "{text}");
        let region = of("Received redirect: this normally indicates an incorrectly configured region");
        assert!(unreadable("s3://b/a", None, &region).to_string().contains("AWS_REGION"));
        let missing = StoreError::NotFound { path: "a".into(), source: "NoSuchBucket".into() };
        let error = unreadable("s3://b/a", None, &missing);
        assert!(error.exit_code() == 2 && error.to_string().contains("NoSuchBucket"), "{error}");
        assert_eq!(again(&error).to_string(), error.to_string());
    }
}

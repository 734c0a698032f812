//! Files in stores, found by their URLs.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::time::timeout;

use super::StoreListing;
use super::blocks::Blocks;
use super::faults::{parsed, silent, unreadable};
use super::files::{Shared, StoredFile};
use super::place::StorePlace;
use super::reach::{reach, reach_web};
use super::request::{Object, PATIENCE};
use super::span::BLOCK_BYTES;
use super::stop::Stop;
use super::waiting::StoreThreads;
use crate::error::{Error, Result};

/// Blocks that are held until a plan says how many.
const FIRST_BLOCKS: u64 = 4;

/// The stores of some inputs, each opened once.
pub(crate) struct Stores {
    shared: Shared,
    reached: HashMap<String, Arc<dyn ObjectStore>>,
}

impl Stores {
    /// None yet. Waiting for them ends as [`super::stopped_by`] says.
    ///
    /// # Errors
    /// The system gives no threads.
    pub(crate) fn new() -> Result<Stores> {
        let (threads, blocks) = (Arc::new(StoreThreads::start()?), Arc::new(Blocks::new(FIRST_BLOCKS * BLOCK_BYTES)));
        Ok(Stores { shared: Shared { threads, blocks, stop: Stop::current() }, reached: HashMap::new() })
    }

    /// The file at a place; none where there is none.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub(crate) fn file(&mut self, place: &StorePlace) -> Result<Option<StoredFile>> {
        if !place.is_web && (place.key.is_empty() || place.is_folder) {
            return Ok(None);
        }
        let (store, url) = (self.store(place)?, place.url());
        let path = if place.is_web { Path::default() } else { key(place, &place.key)? };
        let looked = async {
            // A server that signed a request signed one that gets; and of a store the key is asked for alone.
            if !place.is_web {
                return store.head(&path).await;
            }
            let range = Some(GetRange::Suffix(1));
            store.get_opts(&path, GetOptions { range, ..GetOptions::default() }).await.map(|found| found.meta)
        };
        match self.wait(place, looked)? {
            Ok(meta) => {
                let object = Object::new((store, path), url, secret(place), &meta);
                Ok(Some(StoredFile::new(object, self.shared.clone())))
            }
            Err(StoreError::NotFound { .. }) if !place.is_web => Ok(None),
            Err(e) => Err(unreadable(&url, secret(place).as_deref(), &e)),
        }
    }

    /// What lies under a prefix of a place's bucket: in it, or with `deep` at any depth below it, where no folders are
    /// told.
    ///
    /// # Errors
    /// The store cannot be reached or listed.
    pub(crate) fn list(&mut self, place: &StorePlace, prefix: &str, deep: bool) -> Result<StoreListing> {
        let store = self.store(place)?;
        let prefix = if prefix.is_empty() { None } else { Some(key(place, prefix)?) };
        let listed = async {
            if !deep {
                let found = store.list_with_delimiter(prefix.as_ref()).await?;
                return Ok((found.objects, found.common_prefixes));
            }
            let (mut found, mut all) = (Vec::new(), store.list(prefix.as_ref()));
            while let Some(one) = all.next().await {
                found.push(one?);
            }
            Ok((found, Vec::new()))
        };
        let (mut objects, folders) = self.wait(place, listed)?.map_err(|e| unreadable(&place.url(), None, &e))?;
        // Some tools mark a folder by an empty object of its name.
        objects.retain(|meta| meta.size > 0 || Some(&meta.location) != prefix.as_ref());
        objects.sort_by(|a, b| a.location.cmp(&b.location));
        let file = |meta: &ObjectMeta| {
            let url = place.url_of(meta.location.as_ref());
            let object = Object::new((store.clone(), meta.location.clone()), url, None, meta);
            StoredFile::new(object, self.shared.clone())
        };
        let mut folders: Vec<String> = folders.iter().map(Path::to_string).collect();
        folders.sort();
        Ok(StoreListing { files: objects.iter().map(file).collect(), folders })
    }

    fn store(&mut self, place: &StorePlace) -> Result<Arc<dyn ObjectStore>> {
        if let Some(store) = self.reached.get(&place.base) {
            return Ok(store.clone());
        }
        let url = place.url();
        let unusable = |e: StoreError| {
            Error::input("the store cannot be used")
                .path(&url)
                .expected("an endpoint and credentials in the environment (AWS_…, GOOGLE_…, AZURE_…)")
                .found(unreadable(&url, secret(place).as_deref(), &e).details().found.clone().unwrap_or_default())
                .remedy("set the variables that the store's own tools read")
        };
        let base = parsed(&place.base, &url)?;
        let store = match place.is_web {
            true => reach_web(&place.base).map_err(unusable)?,
            false => reach(&base).map_err(unusable)?.0,
        };
        let store: Arc<dyn ObjectStore> = store.into();
        self.reached.insert(place.base.clone(), store.clone());
        Ok(store)
    }

    fn wait<T>(&self, place: &StorePlace, work: impl Future<Output = T>) -> Result<T> {
        let url = place.url();
        let bounded = async { timeout(PATIENCE, work).await.map_err(|_| silent(&url, PATIENCE.as_secs())) };
        self.shared.threads.wait(|| self.shared.stop.check(&url), bounded)
    }
}

/// What follows a question mark, as the store's client writes it.
fn secret(place: &StorePlace) -> Option<String> {
    if !place.is_web {
        return None;
    }
    url::Url::parse(&place.base).ok()?.query().filter(|query| !query.is_empty()).map(str::to_owned)
}

/// A key as the store's client takes it: letter by letter.
fn key(place: &StorePlace, key: &str) -> Result<Path> {
    Path::parse(key).map_err(|e| {
        Error::input("the key of an input cannot be read")
            .path(place.url_of(key))
            .expected("names, with one / between two")
            .found(e.to_string())
            .remedy("correct the URL, or copy the files to a local disk")
    })
}

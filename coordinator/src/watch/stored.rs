//! Custom resources as they are stored, with parts that are read one by one: an object that was stored under an older
//! CustomResourceDefinition may have a spec that can't be read, and that hides neither its name nor its status.

use std::borrow::Cow;
use std::marker::PhantomData;

use drop_protocol::failure::{cut, one_line};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// So much of the path to a field, and of what is wrong with it, is told, in bytes.
const QUOTED: usize = 200;

/// An object of kind `K`.
#[derive(Debug, Clone, Deserialize)]
#[serde(bound = "")]
pub struct Stored<K> {
    /// `metadata`
    #[serde(default)]
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
    #[serde(skip)]
    kind: PhantomData<K>,
}

impl<K> Stored<K> {
    /// Splits the object; `Err` says what is wrong with the spec and what to do about it.
    pub fn into_parts<S, T>(self) -> (ObjectMeta, Result<S, String>, Option<T>)
    where
        S: DeserializeOwned,
        T: DeserializeOwned,
    {
        let spec = part("spec", self.spec).map_err(|error| unreadable(&error));
        (self.metadata, spec, serde_json::from_value(self.status).unwrap_or_default())
    }
}

impl From<drop_crds::CachedImage> for Stored<drop_crds::CachedImage> {
    fn from(object: drop_crds::CachedImage) -> Self {
        Self {
            metadata: object.metadata,
            spec: serde_json::to_value(object.spec).unwrap_or_default(),
            status: serde_json::to_value(object.status).unwrap_or_default(),
            kind: PhantomData,
        }
    }
}

impl<K: Resource> Resource for Stored<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Reads a part of an object; the error names the field.
pub(crate) fn part<T: DeserializeOwned>(name: &str, value: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { name.to_owned() } else { format!("{name}.{path}") };
        format!(
            "{}: {}",
            one_line(cut(&field, QUOTED)),
            one_line(cut(&error.into_inner().to_string(), QUOTED))
        )
    })
}

/// Objects stored under older CustomResourceDefinitions may lack what is required now.
pub(crate) fn unreadable(error: &str) -> String {
    format!("the stored object cannot be read ({error}): apply it again with a valid spec")
}

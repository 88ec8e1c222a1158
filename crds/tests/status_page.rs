//! `STATUS.md` tells of every field that a CachedImage's status has.

use drop_crds::CachedImage;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;

const PAGE: &str = include_str!("../STATUS.md");

/// Names of the fields of `schema`, and of the fields of what its lists hold.
fn fields(schema: &JSONSchemaProps) -> Vec<String> {
    let properties = schema.properties.iter().flatten();
    properties
        .filter(|(name, _)| *name != "conditions")
        .flat_map(|(name, field)| {
            let items = match &field.items {
                Some(JSONSchemaPropsOrArray::Schema(items)) => fields(items),
                _ => Vec::new(),
            };
            std::iter::once(name.clone()).chain(items)
        })
        .collect()
}

#[test]
fn every_field_of_the_status_is_on_its_page() {
    let definition = CachedImage::crd();
    let schema = definition.spec.versions[0].schema.as_ref().unwrap();
    let status = &schema.open_api_v3_schema.as_ref().unwrap().properties.as_ref().unwrap()["status"];
    let fields = fields(status);
    assert!(fields.len() > 20, "{fields:?}");
    for field in fields {
        assert!(PAGE.contains(&format!("`{field}`")), "{field} is missing in STATUS.md");
    }
}

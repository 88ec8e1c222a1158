//! Structural schemas, and the rules of [`crate::rules`] as CEL.
//!
//! Every function here makes the schema of one field or adds rules to that of a struct; the API types name them in
//! `schema_with` and `transform`. This module knows nothing of single kinds beyond their field names in CEL.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::cached_image_set::ImageEntry;
use crate::common::ImagePullPolicy;
use crate::discovery_policy::DiscoverySource;
use crate::rules::{self, Expect, Text, TextRule};

/// Where the API server looks for CEL rules.
const VALIDATIONS: &str = "x-kubernetes-validations";

/// CEL that holds while `rule` is kept by the string `self`.
fn cel(rule: &TextRule) -> String {
    let pattern = rule.pattern;
    match rule.expect {
        Expect::Match => format!("self.matches(r'{pattern}')"),
        Expect::NoMatch => format!("!self.matches(r'{pattern}')"),
    }
}

/// CEL that holds once `rule` is broken by the string `self`.
fn cel_broken(rule: &TextRule) -> String {
    let pattern = rule.pattern;
    match rule.expect {
        Expect::Match => format!("!self.matches(r'{pattern}')"),
        Expect::NoMatch => format!("self.matches(r'{pattern}')"),
    }
}

/// Schema of a text field. A rule stays silent while an earlier one is broken.
fn text(text: &Text) -> Schema {
    let mut schema = json_schema!({ "type": "string", "maxLength": text.max_length });
    if text.required {
        schema.insert("minLength".to_owned(), json!(1));
    }
    for (index, rule) in text.rules.iter().enumerate() {
        let mut cases: Vec<String> = text.rules[..index].iter().map(cel_broken).collect();
        cases.push(cel(rule));
        add_rule(&mut schema, &cases.join(" || "), rule.message);
    }
    schema
}

fn add_rule(schema: &mut Schema, rule: &str, message: &str) {
    push_rule(schema, json!({ "rule": rule, "message": message }));
}

fn push_rule(schema: &mut Schema, rule: Value) {
    let rules = schema.ensure_object().entry(VALIDATIONS).or_insert_with(|| json!([]));
    if let Value::Array(rules) = rules {
        rules.push(rule);
    }
}

fn list(items: &Schema, max_items: u32) -> Schema {
    json_schema!({
        "type": "array",
        "items": items,
        "maxItems": max_items,
        "x-kubernetes-list-type": "atomic",
    })
}

/// The name of an image.
pub fn image(_: &mut SchemaGenerator) -> Schema {
    text(&rules::IMAGE)
}

/// A tag.
pub fn tag(_: &mut SchemaGenerator) -> Schema {
    text(&rules::TAG)
}

/// A digest.
pub fn digest(_: &mut SchemaGenerator) -> Schema {
    text(&rules::DIGEST)
}

/// A duration.
pub fn duration(_: &mut SchemaGenerator) -> Schema {
    text(&rules::DURATION)
}

/// The step of a range query.
pub fn step(_: &mut SchemaGenerator) -> Schema {
    text(&rules::STEP)
}

/// URL of a Prometheus.
pub fn endpoint(_: &mut SchemaGenerator) -> Schema {
    text(&rules::ENDPOINT)
}

/// URL of a registry.
pub fn registry_url(_: &mut SchemaGenerator) -> Schema {
    text(&rules::REGISTRY_URL)
}

/// A PromQL query.
pub fn query(_: &mut SchemaGenerator) -> Schema {
    text(&rules::QUERY)
}

/// The name of another object.
pub fn object_name(_: &mut SchemaGenerator) -> Schema {
    text(&rules::OBJECT_NAME)
}

/// A template of references.
pub fn image_template(_: &mut SchemaGenerator) -> Schema {
    text(&rules::IMAGE_TEMPLATE)
}

/// A regular expression: matching anything against it fails unless it compiles.
pub fn regex(_: &mut SchemaGenerator) -> Schema {
    let mut schema = text(&rules::REGEX);
    add_rule(&mut schema, "''.matches(self) in [true, false]", rules::BAD_REGEX);
    schema
}

/// Repositories of a registry.
pub fn repositories(_: &mut SchemaGenerator) -> Schema {
    let mut schema = list(&text(&rules::REPOSITORY), rules::MAX_REPOSITORIES);
    add_rule(&mut schema, "size(self) > 0", rules::NO_REPOSITORIES);
    schema
}

/// Sources of a discovery.
pub fn sources(generator: &mut SchemaGenerator) -> Schema {
    list(&generator.subschema_for::<DiscoverySource>(), rules::MAX_SOURCES)
}

/// Images of a set.
pub fn image_entries(generator: &mut SchemaGenerator) -> Schema {
    list(&generator.subschema_for::<ImageEntry>(), rules::MAX_SET_IMAGES)
}

/// A 32-bit number of at least 1.
pub fn positive_int32(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int32", "minimum": 1 })
}

/// A 32-bit number.
pub fn int32(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int32" })
}

/// A 64-bit number.
pub fn int64(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int64" })
}

/// A text that only Drop writes.
pub fn string(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string" })
}

/// A moment.
pub fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// A list that is known only in order to be refused with words of its own.
pub fn unsupported_list(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": unsupported(generator), "x-kubernetes-list-type": "atomic" })
}

/// An object that is known only in order to be refused with words of its own.
pub fn unsupported(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// An optional field's schema without `null`: absent and null are not the same to the API server.
pub fn plain<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// When nodes ask the registry.
pub fn image_pull_policy(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<ImagePullPolicy>()
}

/// A list that has one writer.
pub fn atomic_list<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": generator.subschema_for::<T>(),
        "x-kubernetes-list-type": "atomic",
    })
}

/// A list of at most `MAX` entries that has one writer.
pub fn bounded_list<T: JsonSchema, const MAX: usize>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = atomic_list::<T>(generator);
    schema.insert("maxItems".to_owned(), json!(MAX));
    schema
}

/// A reference to an object in Drop's namespace.
pub fn local_reference(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": { "name": { "type": "string", "default": "", "maxLength": 253, "description": "Name of the Secret." } },
        "x-kubernetes-map-type": "atomic",
    })
}

/// Secrets with registry credentials.
pub fn pull_secrets(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": local_reference(generator),
        "x-kubernetes-list-type": "atomic",
    })
}

/// Tolerations with the API server's own rules for those of pods.
pub fn tolerations(_: &mut SchemaGenerator) -> Schema {
    let mut item = json_schema!({
        "type": "object",
        "properties": {
            "key": { "type": "string", "description": "Key of the taint. Empty, with operator Exists, means every taint." },
            "operator": {
                "type": "string",
                "description": "Equal (also when unset) compares the value; Exists accepts any.",
                VALIDATIONS: [{ "rule": "self in ['', 'Exists', 'Equal']", "message": rules::BAD_OPERATOR }],
            },
            "value": { "type": "string", "description": "Value of the taint, when operator is Equal." },
            "effect": {
                "type": "string",
                "description": "Effect of the taint. Empty means every effect.",
                VALIDATIONS: [{
                    "rule": "self in ['', 'NoSchedule', 'PreferNoSchedule', 'NoExecute']",
                    "message": rules::BAD_EFFECT,
                }],
            },
            "tolerationSeconds": {
                "type": "integer",
                "format": "int64",
                "description": "Accepted so that tolerations of pods can be copied; images do not get evicted with pods.",
            },
        },
    });
    add_rule(
        &mut item,
        "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
        rules::EXISTS_WITH_VALUE,
    );
    add_rule(
        &mut item,
        "has(self.key) && self.key != '' || has(self.operator) && self.operator == 'Exists'",
        rules::NO_KEY,
    );
    list(&item, rules::MAX_TOLERATIONS)
}

/// Conditions as every Kubernetes object has them: one for each type.
pub fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": { "type": "string", "maxLength": 316, "description": "What the condition is about." },
                "status": {
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                    "description": "Whether it holds.",
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The generation of the spec that the condition is about.",
                },
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When status last changed.",
                },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "description": "Why, in one word for programs.",
                },
                "message": { "type": "string", "maxLength": 32768, "description": "Why, for people." },
            },
        },
    })
}

/// Adds: not both tag and digest.
pub fn tag_or_digest(schema: &mut Schema) {
    add_rule(
        schema,
        "!(has(self.tag) && self.tag != '' && has(self.digest) && self.digest != '')",
        rules::TAG_AND_DIGEST,
    );
}

/// Adds: the block that `type` names, and no other.
pub fn one_source(schema: &mut Schema) {
    add_rule(schema, "self.type != 'prometheus' || has(self.prometheus)", rules::NO_PROMETHEUS);
    add_rule(schema, "self.type != 'prometheus' || !has(self.registry)", rules::NOT_REGISTRY);
    add_rule(schema, "self.type != 'registry' || has(self.registry)", rules::NO_REGISTRY);
    add_rule(schema, "self.type != 'registry' || !has(self.prometheus)", rules::NOT_PROMETHEUS);
}

/// Adds: sources, and none of the other form's fields. `sources` is not in `required`, because a required field that
/// is missing keeps the API server from evaluating rules, and the other form would be refused in the wrong words.
///
/// An object that was stored in the other form keeps it: the API server never takes objects of free form for
/// unchanged, so that without looking at the old object the rule would refuse every write to its status.
pub fn lists_sources(schema: &mut Schema) {
    const OTHER: &str = "has(self.queries) || has(self.signals) || has(self.ranking)";
    const WAS_OTHER: &str = "oldSelf.hasValue() && (has(oldSelf.value().queries) || has(oldSelf.value().signals) || \
                             has(oldSelf.value().ranking))";
    push_rule(
        schema,
        json!({
            "rule": format!("!({OTHER}) || {WAS_OTHER}"),
            "message": rules::OTHER_FORM,
            "optionalOldSelf": true,
        }),
    );
    add_rule(schema, &format!("{OTHER} || has(self.sources) && size(self.sources) > 0"), rules::NO_SOURCES);
}

/// Takes out the defaults of a status's fields: they say how Drop reads it, not what the API server should fill in.
pub fn without_defaults(schema: &mut Schema) {
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for property in properties.values_mut().filter_map(Value::as_object_mut) {
            property.remove("default");
        }
    }
}

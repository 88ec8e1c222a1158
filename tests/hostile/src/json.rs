//! JSON.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

use crate::text::any_text;

/// A value that is the wrong one nearly everywhere.
fn odd() -> impl Strategy<Value = Value> {
    let fixed = vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e300),
        json!(""),
        json!("\0"),
        json!([]),
        json!({}),
        json!([[]]),
        json!("-009999-01-02T01:59:59Z"),
        json!("9999-12-30T22:00:00Z"),
    ];
    prop_oneof![
        6 => select(fixed),
        2 => any_text().prop_map(Value::from),
        1 => (1..200_usize).prop_map(nested),
        1 => Just(json!("x".repeat(100_000))),
    ]
}

/// Lists within lists.
#[must_use]
pub fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::Null, |inner, _| json!([inner]))
}

/// Any JSON of moderate size.
pub fn any_json() -> impl Strategy<Value = Value> {
    odd().prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any_text(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// `sound` with a few of its parts replaced or taken away, or beside new ones.
pub fn damaged_json(sound: Value) -> impl Strategy<Value = Value> {
    let damage = (any::<Index>(), 0..4_u8, odd());
    prop::collection::vec(damage, 1..4).prop_map(move |damages| {
        damages.into_iter().fold(sound.clone(), |mut value, (at, how, odd)| {
            let all = paths(&value);
            let Some(path) = all.get(at.index(all.len().max(1))) else { return value };
            match how {
                0 => drop(remove(&mut value, path)),
                1 => add(&mut value, path, odd),
                _ => *at_path(&mut value, path) = odd,
            }
            value
        })
    })
}

/// `sound` once for each of its parts, with that part replaced by `with`; and the name of the part: the last key on the way to it.
#[must_use]
pub fn each_replaced(sound: &Value, with: &Value) -> Vec<(String, Value)> {
    let named =
        paths(sound).into_iter().filter(|path| path.iter().any(|step| step.parse::<usize>().is_err()));
    named
        .map(|path| {
            let mut value = sound.clone();
            *at_path(&mut value, &path) = with.clone();
            let name = path.iter().rev().find(|step| step.parse::<usize>().is_err());
            (name.cloned().unwrap_or_default(), value)
        })
        .collect()
}

/// The ways to all parts of a value but the whole.
fn paths(value: &Value) -> Vec<Vec<String>> {
    let parts: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, part)| (key.clone(), part)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(n, part)| (n.to_string(), part)).collect(),
        _ => Vec::new(),
    };
    let mut found = Vec::new();
    for (step, part) in parts {
        found.push(vec![step.clone()]);
        found.extend(paths(part).into_iter().map(|rest| [vec![step.clone()], rest].concat()));
    }
    found
}

fn at_path<'v>(value: &'v mut Value, path: &[String]) -> &'v mut Value {
    path.iter().fold(value, |value, step| match value {
        Value::Array(list) => &mut list[step.parse::<usize>().unwrap_or_default()],
        other => &mut other[step.as_str()],
    })
}

fn remove(value: &mut Value, path: &[String]) -> Option<Value> {
    let (last, way) = path.split_last()?;
    match at_path(value, way) {
        Value::Object(map) => map.remove(last),
        Value::Array(list) => Some(list.remove(last.parse().ok()?)),
        _ => None,
    }
}

fn add(value: &mut Value, path: &[String], odd: Value) {
    match at_path(value, path) {
        Value::Object(map) => drop(map.insert("fromALaterRelease".to_owned(), odd)),
        Value::Array(list) => list.push(odd),
        other => *other = odd,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_replaced_once_and_named() {
        let sound = json!({ "a": [1, { "b": 2 }], "c": null });
        let found = each_replaced(&sound, &json!("x"));
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "a", "a", "b", "c"]);
        assert_eq!(found[3].1, json!({ "a": [1, { "b": "x" }], "c": null }));
    }
}

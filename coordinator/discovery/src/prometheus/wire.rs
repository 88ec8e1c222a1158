//! The answer on the wire. Series are handed on one by one; nothing here grows with their number.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Tally;

/// How the error begins when an answer names too many images.
pub(super) const TOO_MANY: &str = "too many images";

/// So many warnings are kept.
const WARNINGS: usize = 3;

#[derive(Debug)]
pub(super) struct TooMany;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Envelope {
    pub(super) status: Option<String>,
    pub(super) data: Option<Data>,
    pub(super) error_type: Option<String>,
    pub(super) error: Option<String>,
    #[serde(default)]
    pub(super) warnings: Few,
    /// VictoriaMetrics: some storage nodes did not answer.
    #[serde(default)]
    pub(super) is_partial: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Data {
    pub(super) result_type: Option<String>,
    #[serde(default)]
    pub(super) result: Tally,
}

/// The first few of a list of texts.
#[derive(Debug, Default)]
pub(super) struct Few(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Few {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Few;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of warnings")
            }
            fn visit_unit<E>(self) -> Result<Few, E> {
                Ok(Few::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few, A::Error> {
                let mut few = Few::default();
                while few.0.len() < WARNINGS {
                    let Some(text) = list.next_element()? else { return Ok(few) };
                    few.0.push(text);
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(few)
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

impl<'de> Deserialize<'de> for Tally {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Results;
        impl<'de> Visitor<'de> for Results {
            type Value = Tally;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of series")
            }
            fn visit_unit<E>(self) -> Result<Tally, E> {
                Ok(Tally::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tally, A::Error> {
                let mut tally = Tally::default();
                while let Some(element) = list.next_element::<Element>()? {
                    if let Element::Series(series) = element {
                        tally.add(series).map_err(|TooMany| A::Error::custom(TOO_MANY))?;
                    }
                }
                Ok(tally)
            }
        }
        deserializer.deserialize_any(Results)
    }
}

/// An element of `result`: a series, or half of a scalar.
enum Element {
    Series(Series),
    Other,
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Element;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a series")
            }
            fn visit_f64<E>(self, _: f64) -> Result<Element, E> {
                Ok(Element::Other)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Element, E> {
                Ok(Element::Other)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Element, E> {
                Ok(Element::Other)
            }
            fn visit_str<E>(self, _: &str) -> Result<Element, E> {
                Ok(Element::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Element, A::Error> {
                let mut series = Series::default();
                while let Some(Bytes(key)) = map.next_key()? {
                    match key.as_slice() {
                        b"metric" => series.image = map.next_value::<Metric>()?.0,
                        b"value" => series.add(map.next_value()?),
                        b"values" => series.sum = map.next_value::<Samples>()?.0,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(Element::Series(series))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// What counts of a series.
#[derive(Debug, Default)]
pub(super) struct Series {
    /// The label, as the bytes that were sent.
    pub(super) image: Option<Vec<u8>>,
    /// The sum of its values; `None` if none is a number.
    pub(super) sum: Option<f64>,
}

impl Series {
    fn add(&mut self, Sample(value): Sample) {
        add(&mut self.sum, value);
    }
}

fn add(sum: &mut Option<f64>, value: f64) {
    if !value.is_nan() {
        *sum = Some(sum.unwrap_or_default() + value);
    }
}

/// `[time, "value"]`
struct Sample(f64);

impl<'de> Deserialize<'de> for Sample {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (_, text) = <(IgnoredAny, String)>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| D::Error::custom("a value is not a number"))
    }
}

/// The sum of a list of samples.
struct Samples(Option<f64>);

impl<'de> Deserialize<'de> for Samples {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sum;
        impl<'de> Visitor<'de> for Sum {
            type Value = Samples;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of samples")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Samples, A::Error> {
                let mut sum = None;
                while let Some(Sample(value)) = list.next_element()? {
                    add(&mut sum, value);
                }
                Ok(Samples(sum))
            }
        }
        deserializer.deserialize_seq(Sum)
    }
}

/// The label `image` of a set of labels.
struct Metric(Option<Vec<u8>>);

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Labels;
        impl<'de> Visitor<'de> for Labels {
            type Value = Metric;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metric, A::Error> {
                let mut image = None;
                while let Some(Bytes(name)) = map.next_key()? {
                    if name == b"image" {
                        image = Some(map.next_value::<Bytes>()?.0);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Metric(image))
            }
        }
        deserializer.deserialize_map(Labels)
    }
}

/// A text that need not be valid UTF-8: one odd label spoils no other series.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E>(self, text: &str) -> Result<Bytes, E> {
                Ok(Bytes(text.as_bytes().to_owned()))
            }
            fn visit_bytes<E>(self, text: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(text.to_owned()))
            }
        }
        deserializer.deserialize_bytes(Text)
    }
}

//! Gauges and counters per CachedImage. Series of images that are gone disappear, and there is a bound to their number.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// At most this many images, the first by name, have series of their own.
const MAX_IMAGES: usize = 2000;

/// One CachedImage as its status tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageState {
    /// Name of the CachedImage.
    pub name: String,
    /// `spec.image`
    pub image: String,
    /// How many nodes should have it.
    pub targeted: i32,
    /// How many have it.
    pub cached: i32,
    /// The most failures in a row on any node.
    pub consecutive_failures: i32,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Images(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    images: Vec<ImageState>,
    left_out: usize,
    cached: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
    evictions: BTreeMap<String, u64>,
}

impl Images {
    /// Replaces what the gauges show, and forgets the counters of images that are gone.
    pub fn show(&self, mut images: Vec<ImageState>) {
        let mut state = self.state();
        state.left_out = images.len().saturating_sub(MAX_IMAGES);
        images.truncate(MAX_IMAGES);
        let known: BTreeSet<&str> = images.iter().map(|image| image.image.as_str()).collect();
        state.cached.retain(|image, _| known.contains(image.as_str()));
        state.errors.retain(|image, _| known.contains(image.as_str()));
        state.evictions.retain(|image, _| known.contains(image.as_str()));
        drop(known);
        state.images = images;
    }

    /// A node has reported a successful pull or check of `image`.
    pub fn cached(&self, image: &str) {
        count(&mut self.state().cached, image);
    }

    /// A node has reported a failed one.
    pub fn failed(&self, image: &str) {
        count(&mut self.state().errors, image);
    }

    /// A node has reported that it is gone without Drop's doing.
    pub fn evicted(&self, image: &str) {
        count(&mut self.state().evictions, image);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(counters: &mut BTreeMap<String, u64>, image: &str) {
    if let Some(counter) = counters.get_mut(image) {
        *counter += 1;
    } else if counters.len() < MAX_IMAGES {
        counters.insert(image.to_owned(), 1);
    }
}

impl Collector for Images {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let state = self.state();
        type Pick = fn(&ImageState) -> i32;
        let gauges: [(&str, &str, Pick); 2] = [
            ("nodes_targeted", "Nodes that should have the image", |image| image.targeted),
            ("nodes_cached", "Nodes that have the image", |image| image.cached),
        ];
        for (name, help, pick) in gauges {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for image in &state.images {
                metric
                    .encode_family(&[("cachedimage", image.name.as_str())])?
                    .encode_gauge(&i64::from(pick(image)))?;
            }
        }
        let mut metric = encoder.encode_descriptor(
            "consecutive_failures",
            "The most failures in a row on any node",
            None,
            MetricType::Gauge,
        )?;
        for image in &state.images {
            metric
                .encode_family(&[("cachedimage", image.name.as_str()), ("image", image.image.as_str())])?
                .encode_gauge(&i64::from(image.consecutive_failures))?;
        }
        let mut metric = encoder.encode_descriptor(
            "images_without_series",
            "CachedImages beyond those that have series of their own",
            None,
            MetricType::Gauge,
        )?;
        metric.encode_gauge(&i64::try_from(state.left_out).unwrap_or(i64::MAX))?;
        let counters = [
            ("images_cached", "Successful pulls and checks that nodes reported", &state.cached),
            ("pull_errors", "Failed pulls that nodes reported", &state.errors),
            ("evictions", "Images that went from nodes without Drop's doing", &state.evictions),
        ];
        for (name, help, counters) in counters {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (image, counter) in counters {
                metric
                    .encode_family(&[("image", image.as_str())])?
                    .encode_counter::<NoLabelSet, _, u64>(counter, None)?;
            }
        }
        Ok(())
    }
}

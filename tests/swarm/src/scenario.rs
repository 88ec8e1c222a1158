//! What is rolled out to how many nodes, and how fast the policy lets that go at best.

use std::collections::BinaryHeap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;

/// A rollout of some images to every node of a swarm.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Scenario {
    /// How many nodes, each with an agent.
    #[arg(long, default_value_t = 100)]
    pub(crate) nodes: usize,
    /// How many CachedImages.
    #[arg(long, default_value_t = 10)]
    pub(crate) images: usize,
    /// `maxConcurrentNodes` of the PullPolicy.
    #[arg(long, default_value_t = 25)]
    pub(crate) cap: usize,
    /// `minDelayBetweenPulls` in milliseconds.
    #[arg(long, default_value_t = 1)]
    pub(crate) delay_ms: u64,
    /// What the modelled runtime does.
    #[command(flatten)]
    pub(crate) runtime: RuntimeModel,
}

/// How the modelled container runtime behaves.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct RuntimeModel {
    /// Time from PullImage to the first byte: `500` (ms), `200-800` (evenly spread) or `~500` (exponential).
    #[arg(long, default_value = "500")]
    pub(crate) pull_ms: Spread,
    /// Size of an image in MB, in the same forms.
    #[arg(long, default_value = "0")]
    pub(crate) image_mb: Spread,
    /// Download speed of one node in MB/s.
    #[arg(long, default_value_t = 100)]
    pub(crate) node_mbps: u64,
    /// Of so many thousand pulls this many fail, as if the registry had answered 503.
    #[arg(long, default_value_t = 0)]
    pub(crate) failures_per_mille: u32,
    /// How many images vanish from their node in a minute, over the whole swarm.
    #[arg(long, default_value_t = 0)]
    pub(crate) evictions_per_minute: u32,
}

/// A number that is always the same, evenly spread, or exponentially distributed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) enum Spread {
    /// Always this.
    Fixed(f64),
    /// Anything from the first to the second.
    Even(f64, f64),
    /// Exponential with this mean.
    Exponential(f64),
}

impl Spread {
    /// One drawing.
    pub(crate) fn draw(self, random: &mut fastrand::Rng) -> f64 {
        match self {
            Self::Fixed(value) => value,
            Self::Even(low, high) => low + (high - low) * random.f64(),
            Self::Exponential(mean) => -mean * (1.0 - random.f64()).ln(),
        }
    }

    fn mean(self) -> f64 {
        match self {
            Self::Fixed(value) | Self::Exponential(value) => value,
            Self::Even(low, high) => f64::midpoint(low, high),
        }
    }
}

impl std::str::FromStr for Spread {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| {
            let value: f64 = text.parse().with_context(|| format!("{text} is not a number"))?;
            if value >= 0.0 { Ok(value) } else { bail!("{text} is less than nothing") }
        };
        Ok(match (text.strip_prefix('~'), text.split_once('-')) {
            (Some(mean), _) => Self::Exponential(number(mean)?),
            (None, Some((low, high))) => Self::Even(number(low)?, number(high)?),
            (None, None) => Self::Fixed(number(text)?),
        })
    }
}

impl RuntimeModel {
    /// How long one pull takes.
    pub(crate) fn draw_pull(&self, random: &mut fastrand::Rng) -> Duration {
        let bytes = self.image_mb.draw(random) / self.node_mbps.max(1) as f64;
        Duration::from_secs_f64(self.pull_ms.draw(random) / 1000.0 + bytes)
    }

    fn mean_pull(&self) -> f64 {
        self.pull_ms.mean() / 1000.0 + self.image_mb.mean() / self.node_mbps.max(1) as f64
    }
}

impl Scenario {
    /// How many pairs of image and node.
    pub(crate) fn pairs(&self) -> usize {
        self.nodes * self.images
    }

    /// The time in which every node could have every image: `cap` nodes at a time, each pulls all its images one after
    /// the other, starts `delay` apart, nothing else takes any time.
    pub(crate) fn ideal(&self) -> Duration {
        let busy = Duration::from_secs_f64(self.runtime.mean_pull() * self.images as f64);
        let delay = Duration::from_millis(self.delay_ms);
        let mut ends: BinaryHeap<std::cmp::Reverse<Duration>> = BinaryHeap::new();
        let mut next_start = Duration::ZERO;
        let mut last_end = Duration::ZERO;
        for _ in 0..self.nodes {
            let free = if ends.len() < self.cap { None } else { ends.pop().map(|end| end.0) };
            let start = free.unwrap_or_default().max(next_start);
            next_start = start + delay;
            last_end = last_end.max(start + busy);
            ends.push(std::cmp::Reverse(start + busy));
        }
        last_end
    }

    /// In a few words.
    pub(crate) fn title(&self) -> String {
        format!("{} nodes × {} images", self.nodes, self.images)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(nodes: usize, images: usize, cap: usize, delay_ms: u64) -> Scenario {
        let runtime = RuntimeModel {
            pull_ms: Spread::Fixed(500.0),
            image_mb: Spread::Fixed(0.0),
            node_mbps: 100,
            failures_per_mille: 0,
            evictions_per_minute: 0,
        };
        Scenario { nodes, images, cap, delay_ms, runtime }
    }

    #[test]
    fn the_ideal_is_bound_by_cap_or_by_delay() {
        assert_eq!(scenario(200, 10, 50, 0).ideal(), Duration::from_secs(20));
        // One start a second is slower than 50 slots of 5 s.
        assert_eq!(scenario(200, 10, 50, 1000).ideal(), Duration::from_secs(199 + 5));
    }

    #[test]
    fn a_spread_is_read_in_three_forms() {
        assert_eq!("500".parse::<Spread>().unwrap(), Spread::Fixed(500.0));
        assert_eq!("200-800".parse::<Spread>().unwrap(), Spread::Even(200.0, 800.0));
        assert_eq!("~500".parse::<Spread>().unwrap(), Spread::Exponential(500.0));
        assert!("fast".parse::<Spread>().is_err());
        assert!("-1".parse::<Spread>().is_err());
    }
}

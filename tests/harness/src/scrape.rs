//! Reads values and histograms out of a page of metrics.

/// Sum and count of a histogram, without regard to labels.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Histogram {
    /// Sum of all observations.
    pub sum: f64,
    /// How many there were.
    pub count: f64,
}

/// The sum of all values of the series `name` in `text` that have all of these `labels`, each as `name="value"`; 0 if
/// there is none.
#[must_use]
pub fn total(text: &str, name: &str, labels: &[&str]) -> f64 {
    text.lines()
        .filter_map(|line| line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{'])))
        .filter(|rest| labels.iter().all(|label| rest.contains(label)))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// Sum and count of the histogram `name` in `text`.
#[must_use]
pub fn histogram(text: &str, name: &str) -> Histogram {
    let part = |suffix: &str| total(text, &format!("{name}{suffix}"), &[]);
    Histogram { sum: part("_sum"), count: part("_count") }
}

/// The median of the histogram `name` over all of `texts`, by a straight line within its bucket.
#[must_use]
pub fn median(texts: &[String], name: &str) -> Option<f64> {
    let mut all = Buckets::default();
    for text in texts {
        all.add(text, name, 1.0);
    }
    all.median()
}

/// The same for what was observed after `before` and until `after`.
#[must_use]
pub fn median_between(before: &str, after: &str, name: &str) -> Option<f64> {
    let mut buckets = Buckets::default();
    buckets.add(after, name, 1.0);
    buckets.add(before, name, -1.0);
    buckets.median()
}

/// Upper bound and count of each bucket of a histogram.
#[derive(Debug, Default)]
struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    fn add(&mut self, text: &str, name: &str, times: f64) {
        for line in text.lines() {
            let Some(rest) = line.strip_prefix(name).and_then(|rest| rest.strip_prefix("_bucket{")) else {
                continue;
            };
            let Some(bound) = rest.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()) else {
                continue;
            };
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap_or(f64::INFINITY) };
            let count: f64 = line.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or_default();
            match self.0.iter_mut().find(|(b, _)| b.total_cmp(&bound).is_eq()) {
                Some((_, sum)) => *sum += count * times,
                None => self.0.push((bound, count * times)),
            }
        }
    }

    fn median(mut self) -> Option<f64> {
        self.0.sort_by(|a, b| a.0.total_cmp(&b.0));
        let half = self.0.last().map(|(_, total)| total / 2.0).filter(|half| *half > 0.0)?;
        let mut below = (0.0, 0.0);
        for (bound, count) in self.0 {
            if count >= half {
                // Nobody knows how far the last bucket goes.
                let width = if bound.is_finite() { bound - below.0 } else { 0.0 };
                return Some(below.0 + width * (half - below.1) / (count - below.1));
            }
            below = (bound, count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str =
        "h_bucket{le=\"1\"} 10\nh_bucket{le=\"2\"} 10\nh_bucket{le=\"+Inf\"} 10\nh_sum 5\nh_count 10\n";
    const AFTER: &str =
        "h_bucket{le=\"1\"} 11\nh_bucket{le=\"2\"} 14\nh_bucket{le=\"+Inf\"} 15\nh_sum 15\nh_count 15\n";

    #[test]
    fn the_median_is_that_of_the_time_between() {
        assert_eq!(median_between(BEFORE, AFTER, "h"), Some(1.5));
        assert_eq!(median_between(AFTER, AFTER, "h"), None);
        assert_eq!(median(&[AFTER.to_owned()], "h"), Some(7.5 / 11.0));
    }

    #[test]
    fn values_are_added_up_by_name_and_labels() {
        let text = "c_total{a=\"1\",b=\"x\"} 2\nc_total{a=\"2\",b=\"x\"} 3\nc_total_other 9\nplain 4\n";
        assert_eq!(total(text, "c_total", &["b=\"x\""]), 5.0);
        assert_eq!(total(text, "c_total", &["a=\"1\"", "b=\"x\""]), 2.0);
        assert_eq!(total(text, "plain", &[]), 4.0);
        assert_eq!(total(text, "absent", &[]), 0.0);
    }

    #[test]
    fn sum_and_count_are_read() {
        assert_eq!(histogram(AFTER, "h"), Histogram { sum: 15.0, count: 15.0 });
    }
}

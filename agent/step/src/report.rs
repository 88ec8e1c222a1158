//! Makes the report, keeps it within its size, and tells whether it says anything new.

use std::sync::Arc;

use drop_protocol::names::REPORT_MAX_BYTES;
use drop_protocol::{GrantOutcome, LowDisk, Monotonic, Report};

use crate::known::Known;

/// What a report would tell that the Lease does not say yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing: no write.
    None,
    /// Only what the node holds of newly listed references: to be told from this moment on.
    Answers(Monotonic),
    /// Something changed on the node.
    Change,
}

/// The report of all that is known. `last` is the one in the Lease: what is not known better is kept from it.
pub(crate) fn compose(
    known: &Known,
    last: Option<&Report>,
    pod_uid: &str,
    low_disk: Option<LowDisk>,
    ended: Option<GrantOutcome>,
) -> Report {
    let mut report = Report::empty(pod_uid);
    let answered = last.map_or(0, |last| last.catalog);
    report.catalog = known.answered_generation().unwrap_or(answered);
    report.grant = ended.or_else(|| last.and_then(|last| last.grant.clone()));
    report.low_disk = low_disk;
    report.images = known.entries().map(|(uid, entry)| (uid.clone(), entry.clone())).collect();
    fit(&mut report);
    report
}

/// What `report` tells that `last`, the one in the Lease, does not. Entries about references that nobody wants any
/// more say nothing to anyone: dropping them is no news.
pub(crate) fn news(report: &Report, last: Option<&Report>, known: &Known) -> News {
    let low_disk = last.and_then(|last| last.low_disk);
    let left_out = last.map_or(0, |last| last.left_out);
    if report.low_disk != low_disk || report.left_out != left_out {
        return News::Change;
    }
    let mut answers: Option<Monotonic> = None;
    for (uid, reference, answer_at) in known.wanted() {
        let said = last
            .and_then(|last| last.images.get(uid.as_str()))
            .filter(|entry| *entry.reference == *reference);
        if report.images.get(uid.as_str()) == said {
            continue;
        }
        match answer_at {
            None => return News::Change,
            Some(at) => answers = Some(answers.map_or(at, |earlier| earlier.min(at))),
        }
    }
    answers.map_or(News::None, News::Answers)
}

/// Leaves out entries, last by reference, until the report's JSON fits.
fn fit(report: &mut Report) {
    if report.encode().len() < REPORT_MAX_BYTES {
        return;
    }
    let mut order: Vec<(Arc<str>, Arc<str>, usize)> = report
        .images
        .iter()
        .map(|(uid, entry)| {
            // Quotes, colon and comma come on top; what is made of strings and numbers always has a JSON form.
            let size = uid.len() + 4 + serde_json::to_string(entry).unwrap_or_default().len();
            (entry.reference.clone(), uid.clone(), size)
        })
        .collect();
    order.sort();
    let mut head = Report { images: Default::default(), left_out: u32::MAX, ..report.clone() }.encode().len();
    for (_, uid, size) in order {
        if head + size < REPORT_MAX_BYTES && report.left_out == 0 {
            head += size;
        } else {
            report.images.remove(&uid);
            report.left_out = report.left_out.saturating_add(1);
        }
    }
}

//! What is wanted, what the node holds, and what happened to it: the source of every report entry.
//!
//! History is keyed by CachedImage uid and begins with what the Lease's report says, so that attempts, pull times and
//! evictions outlive the process. It must not know grants or writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drop_protocol::catalog::ANSWER_MARGIN;
use drop_protocol::failure::{Classified, cut};
use drop_protocol::names::FAILURE_TEXT_MAX_BYTES;
use drop_protocol::reference::normalise;
use drop_protocol::{Catalog, Evictions, Failure, GrantedImage, Monotonic, Now, Report, ReportEntry};

use crate::spread::spread;

/// An image that stayed this long begins anew with counting evictions.
const STAYED: Duration = Duration::from_secs(24 * 60 * 60);

/// What happened to an image that the catalog no longer lists is remembered for so long: lines that somebody removed by hand
/// come back within seconds, and then nothing has to be pulled again to know what was known.
const REMEMBERED: Duration = Duration::from_secs(600);
/// So many such images are remembered.
const REMEMBERED_MOST: usize = 1024;

/// One CachedImage as the catalog or a grant names it.
#[derive(Debug, Clone)]
struct Wanted {
    reference: String,
    /// As containerd knows it; `None`: not an image reference, so never present.
    normalised: Option<String>,
    /// Newly listed: what the node holds of it is told at this time; `None`: at once.
    answer_at: Option<Monotonic>,
}

/// What happened to one CachedImage on this node.
#[derive(Debug, Clone)]
struct History {
    entry: ReportEntry,
    /// Since when this process has seen it present without a break.
    present_since: Option<Monotonic>,
    /// Until when it is remembered, if the catalog does not list it.
    unlisted_until: Option<Monotonic>,
}

/// Everything an agent knows about images.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    generation: Option<u64>,
    wanted: BTreeMap<String, Wanted>,
    /// Granted images that the catalog seen so far does not list in this way: uid → reference.
    granted: BTreeMap<String, String>,
    inventory: Option<BTreeMap<String, String>>,
    history: BTreeMap<Arc<str>, History>,
}

impl Known {
    /// Begins with what a Lease's report says; whatever was known of another Lease is void.
    pub(crate) fn begin(&mut self, report: Option<&Report>, now: Now) {
        self.history = report
            .into_iter()
            .flat_map(|report| &report.images)
            .map(|(uid, entry)| (uid.clone(), History { entry: entry.clone(), ..History::new("") }))
            .collect();
        self.granted.clear();
        for (uid, wanted) in &mut self.wanted {
            if self.history.get(uid.as_str()).is_some_and(|h| *h.entry.reference == *wanted.reference) {
                wanted.answer_at = None;
            }
        }
        self.compare(now);
    }

    /// Takes a new catalog; `keep` are the images of a grant that is being worked on.
    pub(crate) fn set_catalog(&mut self, catalog: &Catalog, keep: &[GrantedImage], node: &str, now: Now) {
        self.granted.retain(|uid, reference| {
            let listed = catalog.wanted.get(reference).is_some_and(|uids| uids.contains(uid));
            !listed && keep.iter().any(|image| image.uid == *uid)
        });
        let window = catalog.answer_within.saturating_sub(ANSWER_MARGIN);
        let answer_at = now.monotonic.after(spread(node, catalog.generation, window));
        let mut before = std::mem::take(&mut self.wanted);
        for (reference, uids) in &catalog.wanted {
            for uid in uids {
                let wanted = match before.remove(uid) {
                    Some(same) if same.reference == *reference => same,
                    _ => {
                        let known =
                            self.history.get(uid.as_str()).is_some_and(|h| *h.entry.reference == **reference);
                        Wanted::new(reference, (!known).then_some(answer_at))
                    }
                };
                self.wanted.insert(uid.clone(), wanted);
            }
        }
        for (uid, reference) in &self.granted {
            self.wanted.insert(uid.clone(), Wanted::new(reference, None));
        }
        self.generation = Some(catalog.generation);
        self.forget_unlisted(now);
        self.compare(now);
    }

    fn forget_unlisted(&mut self, now: Now) {
        let mut room = REMEMBERED_MOST;
        self.history.retain(|uid, history| {
            if self.wanted.contains_key(&**uid) {
                history.unlisted_until = None;
                return true;
            }
            let until = *history.unlisted_until.get_or_insert(now.monotonic.after(REMEMBERED));
            // Nobody looks at it meanwhile.
            history.present_since = None;
            let kept = until > now.monotonic && room > 0;
            room -= usize::from(kept);
            kept
        });
    }

    /// Takes a granted image for wanted, whatever the catalog seen so far says.
    fn want(&mut self, image: &GrantedImage) {
        match self.wanted.get_mut(&image.uid) {
            Some(wanted) if wanted.reference == image.reference => wanted.answer_at = None,
            _ => {
                self.granted.insert(image.uid.clone(), image.reference.clone());
                self.wanted.insert(image.uid.clone(), Wanted::new(&image.reference, None));
            }
        }
    }

    /// Takes what the runtime holds now.
    pub(crate) fn set_inventory(&mut self, images: BTreeMap<String, String>, now: Now) {
        self.inventory = Some(images);
        self.compare(now);
    }

    /// Whether the runtime has ever told what it holds.
    pub(crate) const fn has_inventory(&self) -> bool {
        self.inventory.is_some()
    }

    /// The generation of the catalog that can be answered: `None` before both catalog and inventory are known.
    pub(crate) fn answered_generation(&self) -> Option<u64> {
        self.generation.filter(|_| self.has_inventory())
    }

    /// The manifest digest of `reference` on this node.
    pub(crate) fn digest_of(&self, reference: &str) -> Option<&str> {
        let normalised = normalise(reference).ok()?;
        self.inventory.as_ref()?.get(&normalised).map(String::as_str)
    }

    /// A granted image was pulled: that confirms its reference for every CachedImage that wants it.
    pub(crate) fn pulled(&mut self, image: &GrantedImage, digest: Option<&str>, now: Now) {
        self.want(image);
        if let (Some(digest), Ok(normalised)) = (digest, normalise(&image.reference)) {
            self.inventory.get_or_insert_default().insert(normalised, digest.to_owned());
        }
        let uids: Vec<String> = self
            .wanted
            .iter()
            .filter(|(_, wanted)| wanted.reference == image.reference)
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in uids {
            let history = self.history_of(&uid, &image.reference);
            history.entry.pulled_at = Some(now.wall);
            history.entry.failure = None;
        }
        self.compare(now);
    }

    /// A granted image was there already and needed no pull.
    pub(crate) fn found_present(&mut self, image: &GrantedImage, now: Now) {
        self.want(image);
        self.history_of(&image.uid, &image.reference).entry.failure = None;
        self.compare(now);
    }

    /// A pull of a granted image failed once more.
    pub(crate) fn failed(&mut self, image: &GrantedImage, why: &Classified, now: Now) {
        self.want(image);
        let history = self.history_of(&image.uid, &image.reference);
        let attempts = history.entry.failure.as_ref().map_or(0, |failure| failure.attempts).saturating_add(1);
        history.entry.failure = Some(Box::new(Failure {
            scope: why.scope,
            reason: why.reason,
            message: cut(&why.message, FAILURE_TEXT_MAX_BYTES - 1).to_owned(),
            attempts,
            at: now.wall,
            retry_after_seconds: why.retry_after_seconds,
        }));
        self.compare(now);
    }

    /// What newly listed references are still to be answered has been told now.
    pub(crate) fn answered(&mut self) {
        for (uid, wanted) in &mut self.wanted {
            if self.history.contains_key(uid.as_str()) {
                wanted.answer_at = None;
            }
        }
    }

    /// Entries for the report: whatever is present or has a history.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Arc<str>, &ReportEntry)> {
        let listed = self.history.iter().filter(|(_, history)| history.unlisted_until.is_none());
        listed.map(|(uid, history)| (uid, &history.entry)).filter(|(_, entry)| {
            entry.digest.is_some()
                || entry.pulled_at.is_some()
                || entry.failure.is_some()
                || entry.evictions.is_some()
        })
    }

    /// Each wanted uid with its reference and, if it is newly listed, when it is to be answered.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = (&String, &str, Option<Monotonic>)> {
        self.wanted.iter().map(|(uid, wanted)| (uid, wanted.reference.as_str(), wanted.answer_at))
    }

    fn history_of(&mut self, uid: &str, reference: &str) -> &mut History {
        let history = self.history.entry(uid.into()).or_insert_with(|| History::new(reference));
        if *history.entry.reference != *reference {
            *history = History::new(reference);
        }
        history.unlisted_until = None;
        history
    }

    /// Brings history up to date with what the runtime holds: images that came, went or moved to another digest.
    fn compare(&mut self, now: Now) {
        let Some(inventory) = &self.inventory else { return };
        for (uid, wanted) in &self.wanted {
            let digest = wanted.normalised.as_ref().and_then(|name| inventory.get(name));
            let stale =
                self.history.get(uid.as_str()).is_some_and(|h| *h.entry.reference != *wanted.reference);
            if stale {
                self.history.remove(uid.as_str());
            }
            match (self.history.get_mut(uid.as_str()), digest) {
                (None, None) => {}
                (None, Some(digest)) => {
                    let mut history = History::new(&wanted.reference);
                    history.present(digest, now);
                    self.history.insert(uid.as_str().into(), history);
                }
                (Some(history), Some(digest)) => history.present(digest, now),
                (Some(history), None) => history.absent(now),
            }
        }
    }
}

impl Wanted {
    fn new(reference: &str, answer_at: Option<Monotonic>) -> Self {
        Self { reference: reference.to_owned(), normalised: normalise(reference).ok(), answer_at }
    }
}

impl History {
    fn new(reference: &str) -> Self {
        Self {
            entry: ReportEntry { reference: reference.into(), ..ReportEntry::default() },
            present_since: None,
            unlisted_until: None,
        }
    }

    fn present(&mut self, digest: &str, now: Now) {
        if self.entry.digest.as_deref() != Some(digest) {
            self.entry.digest = Some(digest.into());
        }
        self.present_since.get_or_insert(now.monotonic);
    }

    fn absent(&mut self, now: Now) {
        let since = self.present_since.take();
        if self.entry.digest.take().is_none() {
            return;
        }
        let evictions = self.entry.evictions.take();
        let stayed = since.is_some_and(|since| now.monotonic.since(since) >= STAYED)
            || self.entry.pulled_at.is_some_and(|pulled| {
                // What this process did not see itself, it may have been told by its predecessor's pull time.
                evictions.as_ref().is_none_or(|e| pulled > e.at)
                    && Duration::try_from(now.wall.duration_since(pulled))
                        .is_ok_and(|stayed| stayed >= STAYED)
            });
        // The reset is made here, not when the 24 hours are over: it tells nobody anything before the next eviction,
        // and an idle node writes nothing.
        let before = evictions.filter(|_| !stayed).map_or(0, |e| e.count);
        self.entry.evictions = Some(Box::new(Evictions { count: before.saturating_add(1), at: now.wall }));
    }
}

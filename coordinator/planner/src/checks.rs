//! Which registries to ask now: no more than one question a reference at a time, and few at once.

use std::collections::BTreeMap;

use crate::grants::pulling_order;
use crate::plan::Check;
use crate::survey::Survey;
use crate::wake::Wake;

/// So many checks are under way at a time.
const AT_ONCE: usize = 32;
/// So many of them ask one registry host.
const PER_HOST: usize = 8;

/// The checks to send now, in the order in which images are pulled.
pub(crate) fn plan(survey: &Survey<'_>, wake: &Wake) -> Vec<Check> {
    if !survey.images.iter().any(|facts| facts.check.is_wanted()) {
        return Vec::new();
    }
    let mut under_way = 0;
    let mut by_host: BTreeMap<&str, usize> = BTreeMap::new();
    for seen in survey.memory.images.values().filter(|seen| seen.check.under_way.is_some()) {
        under_way += 1;
        *by_host.entry(&seen.host).or_default() += 1;
    }
    let mut checks = Vec::new();
    for ix in pulling_order(survey) {
        let Some(facts) = survey.images.get(ix) else { continue };
        let (image, check) = (facts.image, &facts.check);
        if !check.is_wanted() || check.is_under_way() || wake.ahead(check.not_before) {
            continue;
        }
        let Some(seen) = survey.memory.images.get(&image.uid) else { continue };
        let at_host = by_host.entry(&seen.host).or_default();
        if under_way >= AT_ONCE || *at_host >= PER_HOST {
            continue;
        }
        under_way += 1;
        *at_host += 1;
        checks.push(Check {
            image: image.name.clone(),
            uid: image.uid.clone(),
            reference: image.reference.clone(),
            secrets: image.secrets.clone(),
        });
    }
    checks
}

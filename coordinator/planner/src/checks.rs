//! Which registries to ask now: no more than one question a reference at a time, and few at once.

use crate::grants::pulling_order;
use crate::plan::Check;
use crate::survey::Survey;
use crate::survey::checks::Line;
use crate::wake::Wake;

/// The checks to send now, in the order in which images are pulled.
pub(crate) fn plan(survey: &Survey<'_>, wake: &Wake) -> Vec<Check> {
    if !survey.images.iter().any(|facts| facts.check.is_wanted()) {
        return Vec::new();
    }
    let mut line = Line::new(survey.memory, wake);
    let mut checks = Vec::new();
    for ix in pulling_order(survey) {
        let Some(facts) = survey.images.get(ix) else { continue };
        let (image, check) = (facts.image, &facts.check);
        if !check.is_wanted() || check.is_under_way() || !check.may_be_asked(wake) {
            continue;
        }
        let Some(seen) = survey.memory.images.get(&image.uid) else { continue };
        if !line.has_room(&seen.host) {
            continue;
        }
        line.join(&seen.host);
        checks.push(Check {
            image: image.name.clone(),
            uid: image.uid.clone(),
            reference: image.reference.clone(),
            secrets: image.secrets.clone(),
        });
    }
    checks
}

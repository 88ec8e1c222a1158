//! What a source said: images with scores, and what it could not say.

use drop_protocol::reference::Reference;

use crate::failure::Failure;

/// Longest host and longest repository path of a reference that registries and runtimes take.
const MAX_PART: usize = 255;

/// An image with its score; higher is better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scored {
    /// The reference, as the source writes it.
    pub image: String,
    /// The score.
    pub score: i64,
}

/// Reads a reference that can be pulled by its name. Runtimes show an image without a name by its ID, which would read as
/// a tag of an image called `sha256`.
#[must_use]
pub fn reference(text: &str) -> Option<Reference> {
    let reference = Reference::parse(text).ok()?;
    let fits = reference.host.len() <= MAX_PART && reference.repository.len() <= MAX_PART;
    (fits && !text.starts_with("sha256:")).then_some(reference)
}

/// What asking one source came to. A registry may fail for some repositories and answer for others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// What was found.
    pub images: Vec<Scored>,
    /// What a user should know of an answer that is usable: what was skipped, warnings of the server.
    pub notes: Vec<String>,
    /// What went wrong, if anything.
    pub failure: Option<Failure>,
    /// Which images of earlier answers stay because of the failure.
    pub keep: Vec<Shape>,
}

impl Answer {
    /// Nothing could be learnt: everything that was found earlier stays.
    #[must_use]
    pub fn failed(failure: Failure) -> Self {
        Self { failure: Some(failure), keep: vec![Shape::default()], ..Self::default() }
    }

    /// Whether the source said nothing at all.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.keep.contains(&Shape::default())
    }
}

/// References that begin and end in a certain way; the default is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// How they begin.
    pub prefix: String,
    /// How they end.
    pub suffix: String,
}

impl Shape {
    /// Whether `image` has this shape.
    #[must_use]
    pub fn fits(&self, image: &str) -> bool {
        image.strip_prefix(self.prefix.as_str()).is_some_and(|rest| rest.ends_with(&self.suffix))
    }
}

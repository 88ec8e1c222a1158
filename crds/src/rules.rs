//! What is valid, as data: each rule is one pattern and the words that a user reads when it is broken.
//!
//! [`crate::schema`] turns these into CEL for the API server, [`crate::validation`] applies them in the coordinator to
//! objects that were stored before the rules existed. Patterns keep to what Go's and Rust's regular expressions share.
//! Messages say what is expected and what to do; the field is named beside them by whoever reports them.

/// One rule about a text field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextRule {
    /// A regular expression, not anchored by itself.
    pub pattern: &'static str,
    /// Whether the text must match the pattern, or must not.
    pub expect: Expect,
    /// What a user reads when the rule is broken.
    pub message: &'static str,
}

/// How a [`TextRule`]'s pattern is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The text must match.
    Match,
    /// The text must not match.
    NoMatch,
}

/// Everything that is asked of one kind of text: rules in order (only the first broken one is reported) and a length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text {
    /// Rules, most telling first.
    pub rules: &'static [TextRule],
    /// Longest text that is accepted, in characters. It also bounds what evaluating the rules may cost.
    pub max_length: u32,
    /// Whether an empty text is refused.
    pub required: bool,
}

const fn must(pattern: &'static str, message: &'static str) -> TextRule {
    TextRule { pattern, expect: Expect::Match, message }
}

const fn must_not(pattern: &'static str, message: &'static str) -> TextRule {
    TextRule { pattern, expect: Expect::NoMatch, message }
}

/// Longest repository path, in characters; a limit of every registry and runtime.
pub const MAX_PATH_LENGTH: u32 = 255;

/// An image's name: registry and path, no tag, no digest. The longest is a host name, a slash and a path.
pub const IMAGE: Text = Text {
    rules: &[
        must_not("://", "must not contain a scheme: write registry.example.com/team/app"),
        must_not("@", "must not contain a digest: move it into the field digest"),
        must_not(
            ":[^/]*$",
            "must not contain a tag: move it into the field tag (a port is fine: host:5000/team/app)",
        ),
        must(
            concat!(
                r"^((([a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?\.)+[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(:[0-9]+)?",
                r"|[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?:[0-9]+|\[[a-fA-F0-9:]+\](:[0-9]+)?)/)?",
                r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$"
            ),
            "is not an image name: after the registry, write lower-case letters and digits, with single . _ - / between them",
        ),
        must(
            r"^([^/]*/)?.{1,255}$",
            "is too long: a repository path has at most 255 characters after the registry",
        ),
    ],
    max_length: 511,
    required: true,
};

/// A tag; empty counts as unset.
pub const TAG: Text = Text {
    rules: &[
        must_not("^v?sha256:", "must not be a digest: move it into the field digest"),
        must(
            "^([A-Za-z0-9_][A-Za-z0-9_.-]*)?$",
            "is not a tag: write letters, digits, _ . and -, not beginning with . or -",
        ),
    ],
    max_length: 128,
    required: false,
};

/// A manifest digest; empty counts as unset.
pub const DIGEST: Text = Text {
    rules: &[must(
        "^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})?$",
        "is not a digest: write sha256: followed by 64 lower-case hex digits, as the registry shows it",
    )],
    max_length: 135,
    required: false,
};

/// A duration in Go's syntax, as every other Kubernetes object writes it.
pub const DURATION: Text = Text {
    rules: &[
        must_not("^-", "must not be negative"),
        must(
            r"^\+?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$",
            "is not a duration: write numbers with units (h, m, s, ms), for example 30s, 5m or 1h30m",
        ),
        must_not(
            r"[0-9]{6,}(\.[0-9]*)?h|[0-9]{8,}(\.[0-9]*)?m([^s]|$)|[0-9]{9,}(\.[0-9]*)?s|[0-9]{12,}(\.[0-9]*)?[mnuµμ]s",
            "is too long: write at most 99999h",
        ),
    ],
    max_length: 32,
    required: true,
};

/// The resolution of a range query, in the syntax of Prometheus.
pub const STEP: Text = Text {
    rules: &[
        must(
            r"^([0-9]+(\.[0-9]+)?|([0-9]+(ms|s|m|h|d|w|y))+)$",
            "is not a step: write numbers with units (d, h, m, s, ms), for example 1m or 15m, or seconds",
        ),
        must("[1-9]", "must be greater than zero"),
    ],
    max_length: 32,
    required: true,
};

const WITH_SCHEME: TextRule = must("^https?://", "must begin with http:// or https://");
const NO_CREDENTIALS: TextRule = must_not(
    "^https?://[^/?#]*@",
    "must not contain a user or password: put them into a Secret and name it in secretRef",
);

/// URL of something that speaks the Prometheus API.
pub const ENDPOINT: Text = Text {
    rules: &[
        WITH_SCHEME,
        NO_CREDENTIALS,
        must(
            r"^https?://[^/?#\s]+([/?][^#\s]*)?$",
            "is not a URL: write http://prometheus.monitoring.svc:9090",
        ),
    ],
    max_length: 2048,
    required: true,
};

/// Base URL of a registry.
pub const REGISTRY_URL: Text = Text {
    rules: &[
        WITH_SCHEME,
        NO_CREDENTIALS,
        must(
            r"^https?://[^/?#\s]+(/[^?#\s]*)?$",
            "is not a registry's URL: write https://registry.example.com",
        ),
    ],
    max_length: 1024,
    required: true,
};

/// A repository on a registry.
pub const REPOSITORY: Text = Text {
    rules: &[must(
        r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$",
        "is not a repository: write the path without registry and tag, for example team/app",
    )],
    max_length: MAX_PATH_LENGTH,
    required: true,
};

/// How a reference is put together from what a registry lists.
pub const IMAGE_TEMPLATE: Text = Text {
    rules: &[must(
        r"^([^{}]|\{\{(-[[:space:]])?[[:space:]]*\.(Registry|Repository|Tag)[[:space:]]*([[:space:]]-)?\}\})*$",
        "is not a template that Drop knows: use {{.Registry}}, {{.Repository}} and {{.Tag}}, and no other braces",
    )],
    max_length: 1024,
    required: false,
};

/// A regular expression. Whether it compiles is asked apart from these rules.
pub const REGEX: Text = Text { rules: &[], max_length: 1024, required: false };

/// A PromQL query: Prometheus judges it.
pub const QUERY: Text = Text { rules: &[], max_length: 16384, required: true };

/// The name of another object.
pub const OBJECT_NAME: Text = Text { rules: &[], max_length: 253, required: true };

/// Every kind of text, for whoever prepares for all of them.
pub const ALL: &[&Text] = &[
    &IMAGE,
    &TAG,
    &DIGEST,
    &DURATION,
    &STEP,
    &ENDPOINT,
    &REGISTRY_URL,
    &REPOSITORY,
    &IMAGE_TEMPLATE,
    &REGEX,
    &QUERY,
    &OBJECT_NAME,
];

// The three bounds below are what the API server grants the rules of lists: it refuses a definition whose rules could
// cost too much on the longest lists.

/// Most images that a set may list.
pub const MAX_SET_IMAGES: u32 = 500;
/// Most sources that a DiscoveryPolicy may list.
pub const MAX_SOURCES: u32 = 20;
/// Most repositories that a source may list.
pub const MAX_REPOSITORIES: u32 = 200;
/// Most tolerations of one object.
pub const MAX_TOLERATIONS: u32 = 64;

/// `tag` beside `digest`.
pub const TAG_AND_DIGEST: &str =
    "tag and digest can't both be set: remove digest to follow the tag, or tag to pin the digest";
/// No `spec`.
pub const NO_SPEC: &str = "spec is missing: fill it in";
/// A DiscoveryPolicy in the form that has queries, signals and ranking.
pub const OTHER_FORM: &str = "queries, signals and ranking belong to a form that this version of Drop does not read: list sources instead";
/// A DiscoveryPolicy that asks nobody.
pub const NO_SOURCES: &str = "sources is empty: list at least one";
/// A prometheus source without its block.
pub const NO_PROMETHEUS: &str = "type is prometheus: fill in the block prometheus";
/// A prometheus source with the other block.
pub const NOT_REGISTRY: &str = "type is prometheus: remove the block registry";
/// A registry source without its block.
pub const NO_REGISTRY: &str = "type is registry: fill in the block registry";
/// A registry source with the other block.
pub const NOT_PROMETHEUS: &str = "type is registry: remove the block prometheus";
/// A source that lists no repository.
pub const NO_REPOSITORIES: &str = "is empty: list at least one repository";
/// A regular expression that does not compile.
pub const BAD_REGEX: &str = "is not a regular expression (RE2: no look-around, no back-references)";
/// A toleration with an operator nobody knows.
pub const BAD_OPERATOR: &str = "must be Exists or Equal";
/// A toleration with an effect nobody knows.
pub const BAD_EFFECT: &str = "must be NoSchedule, PreferNoSchedule or NoExecute";
/// A toleration for any value that names one.
pub const EXISTS_WITH_VALUE: &str = "operator is Exists: remove value, or set operator to Equal";
/// A toleration without key.
pub const NO_KEY: &str = "key is empty: fill it in, or set operator to Exists to tolerate every taint";
/// A number below one.
pub const NOT_POSITIVE: &str = "must be at least 1";

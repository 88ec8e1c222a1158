//! What may go wrong between Drop and a container runtime.

use std::time::Duration;

/// A call to the container runtime that failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The runtime answered with an error, or could not be reached (code 14, `UNAVAILABLE`).
    #[error("{call}: {message}")]
    Status {
        /// The call that failed.
        call: &'static str,
        /// gRPC status code.
        code: i32,
        /// What the runtime says.
        message: String,
    },
    /// The runtime did not answer in time.
    #[error("{call}: the container runtime did not answer within {} s", .after.as_secs())]
    Timeout {
        /// The call that failed.
        call: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// The answer lacks something that every runtime is to send.
    #[error("{call}: the container runtime's answer lacks {what}")]
    Incomplete {
        /// The call that failed.
        call: &'static str,
        /// What is missing.
        what: &'static str,
    },
}

impl Error {
    /// gRPC status code; `UNKNOWN` (2) where there is none, `DEADLINE_EXCEEDED` (4) after a timeout.
    #[must_use]
    pub const fn code(&self) -> i32 {
        match self {
            Self::Status { code, .. } => *code,
            Self::Timeout { .. } => tonic::Code::DeadlineExceeded as i32,
            Self::Incomplete { .. } => tonic::Code::Unknown as i32,
        }
    }

    /// Whether this runtime has no such call: it is not containerd.
    #[must_use]
    pub const fn is_unsupported(&self) -> bool {
        self.code() == tonic::Code::Unimplemented as i32
    }

    pub(crate) fn status(call: &'static str, status: &tonic::Status) -> Self {
        Self::Status { call, code: status.code() as i32, message: describe(status) }
    }
}

/// The status with its causes: a refused connection hides behind "transport error".
fn describe(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

//! Texts and bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Pieces that upset readers: ends of numbers, of text and of lines, look-alikes, what changes the direction of writing.
const ODD: &[&str] = &[
    "",
    "\0",
    "\n",
    "\r\n",
    "\t",
    " ",
    "\u{1b}[31m",
    "\u{feff}",
    "\u{202e}",
    "\u{2028}",
    "\u{200b}",
    "а",  // Cyrillic
    "ｎ", // full width
    "٣",  // a digit, and no ASCII one
    "e\u{301}",
    "🦀",
    "\u{10ffff}",
    "/",
    "//",
    "../",
    ":",
    "::",
    "@",
    ",",
    ";",
    "=",
    "%00",
    "%",
    "*",
    "\"",
    "\\",
    "<",
    ">",
    "{{",
    "}}",
    "[",
    "]",
    "{",
    "}",
    "-",
    "-1",
    "0",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "99999999999999999999999999999999999999999",
    "1e999",
    "-1e999",
    "0x10",
    "1_000",
    "NaN",
    "inf",
    "Infinity",
    "null",
    "true",
    "9999-12-31T23:59:59.999999999Z",
    "-009999-01-02T00:00:00Z",
    "sha256:",
    "sha256:zz",
];

/// Any text: of odd pieces, of any characters, or very long.
pub fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => vec(select(ODD), 0..8).prop_map(|pieces| pieces.concat()),
        4 => "\\PC{0,80}",
        2 => vec(any::<char>(), 0..60).prop_map(String::from_iter),
        1 => (select(ODD), 0..4000_usize).prop_map(|(piece, times)| piece.repeat(times)),
    ]
}

/// Any bytes, mostly no UTF-8.
pub fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..300), any_text().prop_map(String::into_bytes)]
}

/// One damage to a sound text.
#[derive(Debug, Clone)]
enum Damage {
    Truncate(Index),
    Insert(Index, Vec<u8>),
    Replace(Index, u8),
    Repeat(Index, Index, usize),
    Remove(Index, Index),
    /// A run of digits becomes something else.
    Number(Index, &'static str),
    /// So many brackets.
    Nest(Index, u8, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    let odd = select(ODD).prop_map(|piece| piece.as_bytes().to_vec());
    let bytes = prop_oneof![4 => odd, 1 => vec(any::<u8>(), 1..6)];
    prop_oneof![
        2 => at().prop_map(Damage::Truncate),
        4 => (at(), bytes).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        3 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        2 => (at(), at(), 1..40_usize).prop_map(|(a, b, times)| Damage::Repeat(a, b, times)),
        2 => (at(), at()).prop_map(|(a, b)| Damage::Remove(a, b)),
        3 => (at(), select(ODD)).prop_map(|(at, number)| Damage::Number(at, number)),
        1 => (at(), select(b"[{(<".as_slice()), 1..3000_usize).prop_map(|(at, b, n)| Damage::Nest(at, b, n)),
    ]
}

/// Some sound text, damaged a few times.
pub fn damaged_bytes(sound: Vec<String>) -> impl Strategy<Value = Vec<u8>> {
    (select(sound), vec(damage(), 1..4)).prop_map(|(sound, damages)| {
        damages.into_iter().fold(sound.into_bytes(), |text, damage| damage.to(text))
    })
}

/// The same, made into text again.
pub fn damaged_text(sound: &[&str]) -> impl Strategy<Value = String> + use<> {
    let sound = sound.iter().map(|&text| text.to_owned()).collect();
    damaged_bytes(sound).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Sound texts, damaged or not, and any others.
pub fn texts_like(sound: &[&str]) -> impl Strategy<Value = String> + use<> {
    prop_oneof![3 => damaged_text(sound), 2 => any_text()]
}

impl Damage {
    fn to(self, mut text: Vec<u8>) -> Vec<u8> {
        let place = |at: Index, text: &[u8]| at.index(text.len() + 1);
        match self {
            Self::Truncate(at) => text.truncate(place(at, &text)),
            Self::Insert(at, bytes) => {
                let at = place(at, &text);
                text.splice(at..at, bytes);
            }
            Self::Replace(at, byte) => {
                let at = place(at, &text);
                if let Some(old) = text.get_mut(at) {
                    *old = byte;
                }
            }
            Self::Repeat(a, b, times) => {
                let (a, b) = (place(a, &text), place(b, &text));
                let piece = text[a.min(b)..a.max(b)].repeat(times);
                text.splice(b..b, piece);
            }
            Self::Remove(a, b) => {
                let (a, b) = (place(a, &text), place(b, &text));
                text.drain(a.min(b)..a.max(b));
            }
            Self::Number(at, number) => {
                let at = place(at, &text);
                let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let start = at + text[at..].iter().take_while(|byte| !byte.is_ascii_digit()).count();
                let end = start + digits(&text[start..]);
                text.splice(start..end, number.bytes());
            }
            Self::Nest(at, bracket, times) => {
                let at = place(at, &text);
                text.splice(at..at, vec![bracket; times]);
            }
        }
        text
    }
}

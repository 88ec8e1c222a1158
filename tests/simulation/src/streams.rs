//! Chance: a stream of its own for each part, so that what one part draws never depends on how much another has drawn.
//!
//! The n-th draw of a part follows from the seed, the part and n alone. A schedule from which something was taken away
//! therefore goes on with the same latencies, losses and choices everywhere else.

use crate::api::Kind;
use crate::network::Place;

/// What draws by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything that no other part is about.
    World,
    /// A process and the machine that it runs on.
    Place(Place),
    /// What becomes of the requests of a place.
    Requests(Place),
    /// How long the answers of the server to a place take, and what they set off.
    Served(Place),
    /// Deliveries of a place's watch of one kind.
    Watch(Place, Kind),
}

/// Things that are drawn once, each by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thing {
    /// The schedule itself.
    Schedule,
    /// What the registries hold.
    Registry,
    /// A replica.
    Coordinator,
    /// A machine.
    Machine,
    /// A PullPolicy.
    Policy,
    /// A CachedImage.
    Image,
    /// A CachedImageSet, and a DiscoveryPolicy.
    Set,
    /// A fault, or what somebody does.
    Fault,
}

/// Slots of one place: three of its own, and one a kind.
const SLOTS: usize = 3 + Kind::ALL.len();
/// Replicas come before machines.
const REPLICAS: usize = 8;

impl Part {
    fn slot(self) -> usize {
        let (place, slot) = match self {
            Self::World => return 0,
            Self::Place(place) => (place, 0),
            Self::Requests(place) => (place, 1),
            Self::Served(place) => (place, 2),
            Self::Watch(place, kind) => (place, 3 + kind as usize),
        };
        let place = match place {
            Place::Coordinator(index) => index,
            Place::Agent(machine) => REPLICAS + machine,
        };
        1 + place * SLOTS + slot
    }
}

/// All streams of one seed.
#[derive(Debug)]
pub struct Streams {
    seed: u64,
    stir: u64,
    drawn: Vec<u64>,
}

impl Streams {
    /// The streams of `seed`; another `stir` means other draws of parts, and the same of things.
    #[must_use]
    pub fn new(seed: u64, stir: u64) -> Self {
        Self { seed, stir, drawn: Vec::new() }
    }

    /// The next draw of a part: a generator for all that it decides at once.
    pub fn next(&mut self, part: Part) -> fastrand::Rng {
        let slot = part.slot();
        if slot >= self.drawn.len() {
            self.drawn.resize(slot + 1, 0);
        }
        self.drawn[slot] += 1;
        let key = (self.seed ^ self.stir.rotate_right(16))
            .wrapping_add((slot as u64).wrapping_mul(0xA076_1D64_78BD_642F));
        fastrand::Rng::with_seed(mix(mix(key).wrapping_add(self.drawn[slot])))
    }

    /// The draw of a thing.
    #[must_use]
    pub fn once(&self, thing: Thing, number: u64) -> fastrand::Rng {
        let key = self.seed.wrapping_mul(0xE703_7ED1_A0B4_28DB).wrapping_add(thing as u64 + 1);
        fastrand::Rng::with_seed(mix(mix(key).wrapping_add(number)))
    }
}

/// Makes an even number of an uneven one: close inputs give outputs that have nothing in common.
#[must_use]
pub fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// A number that stands for a name.
#[must_use]
pub fn of_name(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

/// One of `names`: the same one also after others have been taken away.
pub fn choose<N: AsRef<str>>(rng: &mut fastrand::Rng, names: impl IntoIterator<Item = N>) -> Option<N> {
    let draw = rng.u64(..);
    names.into_iter().max_by_key(|name| mix(draw ^ of_name(name.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_part_draws_does_not_depend_on_another() {
        let machine = Part::Place(Place::Agent(2));
        let mut alone = Streams::new(7, 0);
        let mut beside = Streams::new(7, 0);
        let first: Vec<u64> = (0..4).map(|_| alone.next(machine).u64(..)).collect();
        let second: Vec<u64> = (0..4)
            .map(|_| {
                beside.next(Part::Place(Place::Agent(1)));
                beside.next(Part::Watch(Place::Agent(2), Kind::Lease));
                beside.next(machine).u64(..)
            })
            .collect();
        assert_eq!(first, second);
        assert_ne!(first[0], first[1]);
    }

    #[test]
    fn a_choice_stays_while_it_is_there() {
        let all = ["a", "b", "c", "d"];
        for seed in 0..50 {
            let chosen = choose(&mut fastrand::Rng::with_seed(seed), all).unwrap();
            let fewer = all.iter().copied().filter(|name| *name == chosen || *name == "a");
            assert_eq!(choose(&mut fastrand::Rng::with_seed(seed), fewer), Some(chosen));
        }
    }
}

//! The samples of one series, written as differences: one to three bytes each instead of sixteen.
//!
//! What a host measures are mostly whole numbers or decimal fractions (seconds and loads in hundredths), taken at a
//! steady pace. So a sample is written as a byte that says how its value is told and how much the distance to the
//! sample before it changed, followed by what that byte leaves open:
//!
//! - bits 0 to 4, the change of the distance in time: −15 to 15 ms, written as 0 to 30; 31: it follows as a number.
//! - bits 5 to 7, how the value is told:
//!   - 0: it is the one before.
//!   - 1: the difference follows, in units of the scale before.
//!   - 2: a scale (one byte) follows, and the whole value in its units.
//!   - 3: the bits that differ follow: a byte with the number of zero bytes at the low end (high half) and of the bytes
//!     that follow (low half), then these, lowest first.
//!   - 4: the series has ended here.
//!
//! Numbers are signed, zigzag, seven bits a byte, lowest first. Every value comes back bit by bit: a scale is used only
//! if it gives back the very same bits. Measured against sixteen plain bytes and against Gorilla's bit streams by the
//! example `window`; figures in BENCHMARKS.md.

use crate::ast::Millis;
use crate::sample::{STALE, Sample, is_stale};

/// What a value is multiplied by to become a whole number.
const SCALES: [f64; 5] = [1.0, 1e2, 1e3, 1e6, 1e9];

/// No scale makes the value a whole number.
const UNSCALED: u8 = u8::MAX;

/// Above this not every whole number is an `f64`.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The largest change of the distance in time that the first byte holds.
const NEAR: i64 = 15;

/// In the first byte: the change of the distance follows.
const FAR: u8 = 31;

const SAME: u8 = 0;
const DIFFERENCE: u8 = 1;
const WHOLE: u8 = 2;
const BITS: u8 = 3;
const ENDED: u8 = 4;

/// The most bytes that a sample takes: the first byte, the change of the distance, a scale, a number.
const LONGEST: usize = 1 + 10 + 1 + 10;

/// After this many samples reading can begin, so that a short range at the end of a long series is cheap.
const MARK_EVERY: u32 = 240;

/// A series that grows takes at least this much more.
const GROWTH: usize = 32;

/// A series as small as this may grow even if the memory is used up: the limit on series bounds them.
const SMALL: usize = 64;

/// Where a reader stands: at a sample, with what is needed to read the next.
#[derive(Debug, Clone, Copy)]
struct State {
    time: Millis,
    /// Since the sample before.
    step: Millis,
    /// The last value that was no marker, as bits.
    bits: u64,
    /// The same in units of the scale.
    whole: i64,
    /// An index into [`SCALES`], or [`UNSCALED`].
    scale: u8,
    /// The sample is the marker of an end.
    ended: bool,
}

impl State {
    fn first(sample: Sample) -> Self {
        let ended = is_stale(sample.value);
        let value = if ended { 0.0 } else { sample.value };
        let (scale, whole) = decimal(value).unwrap_or((UNSCALED, 0));
        Self { time: sample.time, step: 0, bits: value.to_bits(), whole, scale, ended }
    }

    fn sample(&self) -> Sample {
        Sample { time: self.time, value: if self.ended { STALE } else { f64::from_bits(self.bits) } }
    }

    /// Writes a sample and stands at it.
    fn write(&mut self, sample: Sample, out: &mut Vec<u8>) {
        // Wrapping there and back: no time is refused.
        let step = sample.time.wrapping_sub(self.time);
        let change = step.wrapping_sub(self.step);
        let near = (-NEAR..=NEAR).contains(&change);
        let time_bits = if near { low_byte(change.wrapping_add(NEAR)) } else { FAR };
        (self.time, self.step) = (sample.time, step);
        self.ended = is_stale(sample.value);
        let bits = sample.value.to_bits();
        let head = |kind: u8, out: &mut Vec<u8>| {
            out.push(time_bits | (kind << 5));
            if !near {
                write_number(change, out);
            }
        };
        if self.ended {
            return head(ENDED, out);
        }
        if bits == self.bits {
            return head(SAME, out);
        }
        let before = std::mem::replace(&mut self.bits, bits);
        if let Some(whole) = scaled(sample.value, self.scale) {
            head(DIFFERENCE, out);
            write_number(whole.wrapping_sub(self.whole), out);
            self.whole = whole;
        } else if let Some((scale, whole)) = decimal(sample.value) {
            head(WHOLE, out);
            out.push(scale);
            write_number(whole, out);
            (self.scale, self.whole) = (scale, whole);
        } else {
            head(BITS, out);
            let differing = bits ^ before;
            let zeros = differing.trailing_zeros() / 8;
            let length = 8 - differing.leading_zeros() / 8 - zeros;
            out.push(low_byte(i64::from((zeros << 4) | length)));
            let shifted = (differing >> (8 * zeros)).to_le_bytes();
            out.extend(shifted.into_iter().take(length as usize));
            self.scale = UNSCALED;
        }
    }

    /// Reads the next sample and stands at it. `None` where the bytes end.
    fn read(&mut self, bytes: &mut &[u8]) -> Option<()> {
        let head = next_byte(bytes)?;
        let change = match head & FAR {
            FAR => read_number(bytes)?,
            near => i64::from(near).wrapping_sub(NEAR),
        };
        self.step = self.step.wrapping_add(change);
        self.time = self.time.wrapping_add(self.step);
        self.ended = false;
        match head >> 5 {
            SAME => {}
            DIFFERENCE => {
                self.whole = self.whole.wrapping_add(read_number(bytes)?);
                self.bits = (self.whole as f64 / factor(self.scale)?).to_bits();
            }
            WHOLE => {
                self.scale = next_byte(bytes)?;
                self.whole = read_number(bytes)?;
                self.bits = (self.whole as f64 / factor(self.scale)?).to_bits();
            }
            BITS => {
                let sizes = next_byte(bytes)?;
                let (low, rest) = bytes.split_at_checked(usize::from(sizes & 0xf))?;
                *bytes = rest;
                let differing = low.iter().rev().fold(0, |bits: u64, byte| (bits << 8) | u64::from(*byte));
                self.bits ^= differing.checked_shl(u32::from(sizes >> 4) * 8)?;
                self.scale = UNSCALED;
            }
            _ => self.ended = true,
        }
        Some(())
    }
}

fn factor(scale: u8) -> Option<f64> {
    SCALES.get(usize::from(scale)).copied()
}

/// The value in units of a scale, if that is a whole number which gives the value back bit by bit.
fn scaled(value: f64, scale: u8) -> Option<i64> {
    let factor = factor(scale)?;
    let scaled = value * factor;
    if scaled.abs() >= EXACT || scaled.is_nan() {
        return None;
    }
    // Rounds; `f64::round` is a call on machines as old as the ones that are built for.
    let whole = (scaled + 0.5_f64.copysign(scaled)) as i64;
    ((whole as f64 / factor).to_bits() == value.to_bits()).then_some(whole)
}

/// The smallest scale that makes a value a whole number.
fn decimal(value: f64) -> Option<(u8, i64)> {
    (0..).zip(SCALES).find_map(|(scale, _)| Some((scale, scaled(value, scale)?)))
}

fn low_byte(number: i64) -> u8 {
    number.to_le_bytes()[0]
}

fn next_byte(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

fn write_number(number: i64, out: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(low_byte(rest.cast_signed()) | 0x80);
        rest >>= 7;
    }
    out.push(low_byte(rest.cast_signed()));
}

fn read_number(bytes: &mut &[u8]) -> Option<i64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = next_byte(bytes)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
        }
    }
    None
}

/// How much memory the samples of all series may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes in use.
    pub used: usize,
    /// Bytes at most.
    pub limit: usize,
}

impl Budget {
    /// Whether there is room for so many bytes more.
    fn has(self, more: usize) -> bool {
        self.used.saturating_add(more) <= self.limit
    }

    /// Counts what changed from one size to another.
    fn change(&mut self, before: usize, after: usize) {
        self.used = self.used.saturating_sub(before).saturating_add(after);
    }
}

/// The samples of a series in the order of time. Never empty.
#[derive(Debug)]
pub struct Samples {
    oldest: State,
    newest: State,
    /// What comes after the oldest, from `start` on. What stands before that is forgotten.
    bytes: Vec<u8>,
    start: usize,
    count: u32,
    /// Samples since the newest mark.
    unmarked: u32,
    /// Samples at which reading can begin, each with where the next one stands in the bytes; oldest first.
    marks: Vec<(State, usize)>,
}

impl Samples {
    /// A series with its first sample.
    pub fn new(first: Sample) -> Self {
        let state = State::first(first);
        Self { oldest: state, newest: state, bytes: Vec::new(), start: 0, count: 1, unmarked: 0, marks: Vec::new() }
    }

    /// Adds a sample, which has to be newer than the newest. If the budget is used up, the oldest samples make room:
    /// how many did is returned.
    pub fn push(&mut self, sample: Sample, budget: &mut Budget) -> u32 {
        let forgotten = self.make_room(budget);
        self.newest.write(sample, &mut self.bytes);
        self.count += 1;
        self.unmarked += 1;
        if self.unmarked >= MARK_EVERY {
            let before = self.size();
            self.unmarked = 0;
            self.marks.retain(|(_, next)| *next > self.start);
            self.marks.reserve_exact(1);
            self.marks.push((self.newest, self.bytes.len()));
            budget.change(before, self.size());
        }
        forgotten
    }

    /// Sees to it that the bytes can take a sample without growing.
    fn make_room(&mut self, budget: &mut Budget) -> u32 {
        let capacity = self.bytes.capacity();
        if capacity - self.bytes.len() >= LONGEST {
            return 0;
        }
        // A quarter more at a time, not twice as much: what is not used is paid for by every series.
        let more = GROWTH.max(capacity / 4);
        let mut forgotten = 0;
        if self.start.saturating_mul(8) < self.bytes.len() || self.start < LONGEST {
            if capacity < SMALL || budget.has(more) {
                self.close_gap();
                let before = self.size();
                self.bytes.reserve_exact(capacity.saturating_add(more) - self.bytes.len());
                budget.change(before, self.size());
                return 0;
            }
            let enough = LONGEST.max(self.bytes.len() / 4);
            while self.start < enough && self.forget_oldest() {
                forgotten += 1;
            }
        }
        self.close_gap();
        forgotten
    }

    /// Moves what is left to the front of the bytes.
    fn close_gap(&mut self) {
        let gap = std::mem::take(&mut self.start);
        self.marks.retain_mut(|(_, next)| {
            let kept = *next > gap;
            *next = next.saturating_sub(gap);
            kept
        });
        self.bytes.drain(..gap);
    }

    /// Forgets the oldest sample, unless it is the only one.
    fn forget_oldest(&mut self) -> bool {
        let mut rest = self.bytes.get(self.start..).unwrap_or_default();
        let before = rest.len();
        if self.oldest.read(&mut rest).is_none() {
            return false;
        }
        self.start += before - rest.len();
        self.count -= 1;
        true
    }

    /// Forgets what is not newer than that, but for the newest sample.
    pub fn forget(&mut self, until: Millis) {
        while self.oldest.time <= until && self.forget_oldest() {}
    }

    /// Gives back memory that is no longer needed.
    pub fn shrink(&mut self, budget: &mut Budget) {
        let before = self.size();
        self.close_gap();
        let wanted = (self.bytes.len() + self.bytes.len() / 4 + LONGEST).max(SMALL);
        if self.bytes.capacity() > 2 * wanted {
            self.bytes.shrink_to(wanted);
            self.marks.shrink_to_fit();
        }
        budget.change(before, self.size());
    }

    /// The oldest sample.
    pub fn oldest(&self) -> Sample {
        self.oldest.sample()
    }

    /// The newest sample.
    pub fn newest(&self) -> Sample {
        self.newest.sample()
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes that the samples take after the first one.
    pub fn written(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Bytes on the heap.
    pub fn size(&self) -> usize {
        self.bytes.capacity() + self.marks.capacity() * size_of::<(State, usize)>()
    }

    /// Those in (after, until], in the order of time, as a list.
    pub fn list(&self, after: Millis, until: Millis) -> Vec<Sample> {
        const SOME: usize = 32;
        if self.newest.time <= after {
            return Vec::new();
        }
        let all = self.oldest.time > after;
        let mut list = Vec::with_capacity(if all { self.count as usize } else { SOME });
        list.extend(self.within(after, until));
        list
    }

    /// Those in (after, until], in the order of time.
    pub fn within(&self, after: Millis, until: Millis) -> impl Iterator<Item = Sample> {
        let mark = self.marks.iter().rev().find(|(state, next)| state.time <= after && *next > self.start);
        let (mut state, next) = mark.copied().unwrap_or((self.oldest, self.start));
        let mut rest = self.bytes.get(next..).unwrap_or_default();
        let mut current = Some(state.sample());
        let all = std::iter::from_fn(move || {
            let sample = current.take()?;
            current = state.read(&mut rest).map(|()| state.sample());
            Some(sample)
        });
        all.skip_while(move |sample| sample.time <= after).take_while(move |sample| sample.time <= until)
    }

    /// The newest in (after, until].
    pub fn latest(&self, after: Millis, until: Millis) -> Option<Sample> {
        let newest = self.newest();
        if newest.time <= until {
            return (newest.time > after).then_some(newest);
        }
        // Seldom: the caller looks back from before the newest sample, mostly by little.
        self.within(after, until).last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Budget = Budget { used: 0, limit: 1 << 20 };

    fn all(samples: &Samples) -> Vec<(Millis, u64)> {
        samples.within(i64::MIN, i64::MAX).map(|sample| (sample.time, sample.value.to_bits())).collect()
    }

    fn written(given: &[(Millis, f64)]) -> Samples {
        let mut given = given.iter().map(|&(time, value)| Sample { time, value });
        let mut samples = Samples::new(given.next().unwrap());
        given.for_each(|sample| assert_eq!(samples.push(sample, &mut ROOM.clone()), 0));
        samples
    }

    #[test]
    fn every_value_comes_back_bit_by_bit() {
        let values = [
            0.0,
            -0.0,
            1.0,
            STALE,
            1.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            0.1,
            0.30000000000000004,
            0.07,
            -0.07,
            1e-9,
            123_456.789_012,
            EXACT,
            -EXACT,
            EXACT - 1.0,
            1e300,
            f64::MIN_POSITIVE,
            f64::from_bits(1),
            f64::from_bits(0x7ff8_0000_0000_0001),
            f64::MAX,
            f64::MIN,
            STALE,
            STALE,
            5e15,
            -5e15,
        ];
        let pairs = values.iter().flat_map(|a| values.iter().flat_map(move |b| [*a, *b]));
        let given: Vec<(Millis, f64)> = (0..).step_by(1000).zip(pairs).collect();
        let expected: Vec<_> = given.iter().map(|(time, value)| (*time, value.to_bits())).collect();
        assert_eq!(all(&written(&given)), expected);
    }

    #[test]
    fn any_distance_in_time_can_be_told() {
        let times = [-9_000_000_000_000_000_000, -16, 0, 15, 30, 46, 61, 1 << 40, i64::MAX - 1, i64::MAX];
        let given: Vec<(Millis, f64)> = times.map(|time| (time, time as f64)).into();
        assert_eq!(
            all(&written(&given)),
            given.iter().map(|(time, value)| (*time, value.to_bits())).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_steady_counter_takes_two_bytes_a_sample() {
        let given: Vec<(Millis, f64)> = (0..1000).map(|n| (n * 10_000 + n % 3, (n * 37 + 5) as f64 / 100.0)).collect();
        let samples = written(&given);
        assert!(samples.bytes.len() < 2010, "{}", samples.bytes.len());
    }

    #[test]
    fn the_old_is_forgotten_and_ranges_are_left_open() {
        let given: Vec<(Millis, f64)> = (0..1000).map(|n| (n * 10, (n * n) as f64)).collect();
        let mut samples = written(&given);
        for until in [-1, 0, 5, 10, 1195, 1200, 1210, 5000, 9980] {
            samples.forget(until);
            let left: Vec<_> = given.iter().filter(|(time, _)| *time > until).map(|(t, v)| (*t, v.to_bits())).collect();
            assert_eq!((all(&samples), samples.count() as usize), (left.clone(), left.len()));
            for (after, until) in [(until, 9990), (5000, 5010), (5010, 5010), (4999, 5000), (9980, 9990), (8000, 8500)]
            {
                let inside = |(time, _): &&(Millis, u64)| *time > after && *time <= until;
                let expected: Vec<_> = left.iter().filter(inside).copied().collect();
                let found: Vec<_> = samples.within(after, until).map(|s| (s.time, s.value.to_bits())).collect();
                assert_eq!(found, expected);
                let latest = samples.latest(after, until).map(|sample| (sample.time, sample.value.to_bits()));
                assert_eq!(latest, expected.last().copied());
            }
        }
        samples.forget(i64::MAX);
        assert_eq!((samples.count(), samples.oldest().time, samples.newest().time), (1, 9990, 9990));
    }

    #[test]
    fn a_full_budget_costs_the_oldest_samples() {
        let mut budget = Budget { used: 0, limit: 1000 };
        let mut samples = Samples::new(Sample { time: 0, value: 0.0 });
        let mut forgotten = 0;
        for n in 1..10_000 {
            forgotten += samples.push(Sample { time: n * 10, value: (n * n) as f64 }, &mut budget);
            assert_eq!(budget.used, samples.size());
            assert!(budget.used <= 1500, "{budget:?}");
        }
        assert_eq!(forgotten + samples.count(), 10_000);
        let times: Vec<_> = samples.within(i64::MIN, i64::MAX).map(|sample| sample.time).collect();
        assert_eq!(times.last(), Some(&99_990));
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 10));
        assert!(times.len() > 50, "{}", times.len());
    }

    #[test]
    fn memory_stays_as_it_is_once_the_window_is_full() {
        let mut budget = ROOM;
        let mut samples = Samples::new(Sample { time: 0, value: 0.0 });
        let mut sizes = Vec::new();
        for n in 1..20_000 {
            samples.push(Sample { time: n * 1000, value: (n * 17) as f64 }, &mut budget);
            samples.forget((n - 600) * 1000);
            sizes.push(samples.size());
        }
        assert_eq!(sizes[2000], sizes[19_000]);
        assert!(sizes[19_000] < 2200, "{}", sizes[19_000]);
        samples.forget(19_900 * 1000);
        samples.shrink(&mut budget);
        assert!(samples.size() < 600 && budget.used == samples.size(), "{} {budget:?}", samples.size());
        assert_eq!(samples.within(0, i64::MAX).count(), 99);
    }
}

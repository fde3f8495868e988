//! What the kernel's random number generator has gathered, from `/proc/sys/kernel/random`.

use crate::collectors::{CollectError, Collector, Outcome, nothing_if_absent};
use crate::host::{HostRoot, KeptFile, TextError, number};
use crate::snapshot::Families;

/// See the module.
pub(crate) struct Entropy {
    available: KeptFile,
    pool_size_file: KeptFile,
    /// Set when the kernel was built: read once.
    pool_size: Option<f64>,
}

impl Entropy {
    pub(crate) fn new(host: &HostRoot) -> Self {
        let file = |name| KeptFile::record(host.proc("sys/kernel/random").join(name));
        Self { available: file("entropy_avail"), pool_size_file: file("poolsize"), pool_size: None }
    }
}

fn parse(text: &[u8]) -> Result<f64, TextError> {
    let bits = text.strip_suffix(b"\n").and_then(number);
    bits.map(|bits| bits as f64).ok_or_else(|| TextError::expected("a number of bits", text))
}

fn read(file: &mut KeptFile) -> Result<f64, CollectError> {
    file.read(parse)?.map_err(CollectError::malformed(file.path()))
}

impl Collector for Entropy {
    fn name(&self) -> &'static str {
        "entropy"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let available = match read(&mut self.available) {
            Ok(bits) => bits,
            Err(error) => return nothing_if_absent(error),
        };
        let pool_size = match self.pool_size {
            Some(bits) => bits,
            None => *self.pool_size.insert(read(&mut self.pool_size_file)?),
        };
        out.gauge("node_entropy_available_bits", "Bits of available entropy.");
        out.value(available);
        out.gauge("node_entropy_pool_size_bits", "Bits of entropy pool.");
        out.value(pool_size);
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_line_end() {
        assert_eq!(parse(b"256\n").unwrap(), 256.0);
        for bad in [&b""[..], b"25", b"x\n", b"-1\n", b"99999999999999999999\n", b"\xff\n", b"1\n2\n"] {
            assert!(parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}

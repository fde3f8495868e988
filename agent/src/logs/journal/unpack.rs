//! What journald compressed: the fields of 512 bytes and more.

use std::io::{Read, Take};

/// How the text of a field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Xz,
    Lz4,
    Zstd,
}

/// The first `most` bytes of a field, and how many there are behind them as far as that is known; `None`: it is nothing that
/// unpacks.
pub(super) fn unpack(packing: Packing, packed: &[u8], most: usize) -> Option<(Vec<u8>, u64)> {
    match packing {
        // What systemd wrote before 2019, and then only where it was built without LZ4.
        Packing::Xz => None,
        Packing::Lz4 => {
            let (size, block) = packed.split_first_chunk()?;
            let size = u64::from_le_bytes(*size);
            let text = lz4(block, most.min(usize::try_from(size).unwrap_or(usize::MAX)))?;
            let left = size.saturating_sub(text.len() as u64);
            Some((text, left))
        }
        Packing::Zstd => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(packed).ok()?;
            let mut text = Vec::new();
            let mut limited: Take<_> = decoder.take(most as u64);
            // What came before a fault is what there is.
            let _ = limited.read_to_end(&mut text);
            let left = if text.len() == most { content_size(packed)?.saturating_sub(most as u64) } else { 0 };
            (!text.is_empty()).then_some((text, left))
        }
    }
}

/// The size that a frame of zstd says it has; 0 where it does not.
fn content_size(frame: &[u8]) -> Option<u64> {
    let descriptor = *frame.get(4)?;
    let single = descriptor & 0x20 != 0;
    let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 3)).copied()?;
    let at = 5 + usize::from(!single) + dictionary;
    let field = frame.get(at..)?;
    Some(match descriptor >> 6 {
        0 if single => u64::from(*field.first()?),
        0 => 0,
        1 => u64::from(u16::from_le_bytes(*field.first_chunk()?)) + 256,
        2 => u64::from(u32::from_le_bytes(*field.first_chunk()?)),
        _ => u64::from_le_bytes(*field.first_chunk()?),
    })
}

/// A block of LZ4, up to `most` bytes of what it holds: literals, and copies of what came before.
fn lz4(block: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = block.iter().as_slice();
    let next = |rest: &mut &[u8]| {
        let (first, after) = rest.split_first()?;
        *rest = after;
        Some(*first)
    };
    // Lengths of 15 go on in further bytes, as long as these are 255.
    let length = |nibble: u8, rest: &mut &[u8]| {
        let mut length = usize::from(nibble);
        if nibble == 15 {
            loop {
                let more = next(rest)?;
                length = length.checked_add(usize::from(more))?;
                if more != 255 {
                    break;
                }
            }
        }
        Some(length)
    };
    while out.len() < most {
        let token = next(&mut rest)?;
        let literals = length(token >> 4, &mut rest)?;
        let wanted = literals.min(most - out.len());
        // A block that was not read to its end may end here.
        let taken = rest.get(..wanted)?;
        out.extend_from_slice(taken);
        if out.len() >= most {
            break;
        }
        rest = rest.get(literals..)?;
        if rest.is_empty() {
            break;
        }
        let (distance, after) = rest.split_first_chunk()?;
        rest = after;
        let distance = usize::from(u16::from_le_bytes(*distance));
        let copied = length(token & 15, &mut rest)? + 4;
        let from = out.len().checked_sub(distance).filter(|_| distance > 0)?;
        // It may reach into what it writes itself.
        for at in from..from + copied.min(most - out.len()) {
            let byte = *out.get(at)?;
            out.push(byte);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_lz4_is_literals_and_copies() {
        // "abc", then 4 + 5 bytes from 3 before, then "xyz12".
        let block = [0x35, b'a', b'b', b'c', 3, 0, 0x50, b'x', b'y', b'z', b'1', b'2'];
        assert_eq!(lz4(&block, 100).unwrap(), b"abcabcabcabcxyz12");
        assert_eq!(lz4(&block, 5).unwrap(), b"abcab");
        // 15 + 255 + 2 literals.
        let long = [&[0xf0, 255, 2][..], &[b'x'; 272]].concat();
        assert_eq!(lz4(&long, 1000).unwrap().len(), 272);
        for bad in [&[0x35, b'a'][..], &[0x10, b'a', 9, 0], &[0x10, b'a', 0, 0], &[0xf0, 255], &[0x1f, b'a', 1, 0, 255]]
        {
            assert_eq!(lz4(bad, 1000), None, "{bad:?}");
        }
        let mut packed = 17u64.to_le_bytes().to_vec();
        packed.extend(block);
        assert_eq!(unpack(Packing::Lz4, &packed, 5).unwrap(), (b"abcab".to_vec(), 12));
        assert_eq!(unpack(Packing::Lz4, &packed, 100).unwrap(), (b"abcabcabcabcxyz12".to_vec(), 0));
    }

    #[test]
    fn a_frame_of_zstd_is_read_as_far_as_it_is_wanted() {
        // One block of a byte that is repeated 700 times, behind "A=": magic, descriptor (single segment, size in two
        // bytes), size less 256, a raw block of two bytes, and a last block of runs.
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x60];
        frame.extend((702u16 - 256).to_le_bytes());
        frame.extend(&(2u32 << 3).to_le_bytes()[..3]);
        frame.extend(b"A=");
        frame.extend(&((700u32 << 3) | (1 << 1) | 1).to_le_bytes()[..3]);
        frame.push(b'x');
        let (text, left) = unpack(Packing::Zstd, &frame, 10_000).unwrap();
        assert_eq!((text.len(), left, text.starts_with(b"A=xxx")), (702, 0, true));
        let (text, left) = unpack(Packing::Zstd, &frame, 100).unwrap();
        assert_eq!((text.len(), left), (100, 602));
        assert_eq!(unpack(Packing::Zstd, b"junk", 100), None);
        assert_eq!(unpack(Packing::Xz, &frame, 100), None);
    }
}

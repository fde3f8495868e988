//! What the kernel dropped of a UDP socket's messages, since its buffer was full.

use crate::host::{TextError, fields, lines, number};

/// Columns of `/proc/net/udp` before the inode, and from there to the drops.
const INODE: usize = 9;
const DROPS: usize = 2;

/// The drops of the socket with an inode; `None`: it is not in the table.
pub(super) fn of_socket(text: &[u8], inode: u64) -> Result<Option<u64>, TextError> {
    for line in lines(text)?.skip(1) {
        let mut fields = fields(line).skip(INODE);
        if fields.next().and_then(number) == Some(inode) {
            let drops = fields.nth(DROPS).and_then(number);
            return drops.map(Some).ok_or_else(|| TextError::expected("the drops of a socket", line));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_found_by_its_inode() {
        let text = b"   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n  \
            316: 0100007F:0202 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 31415 2 0000000000000000 27\n  \
            900: 00000000:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000   104        0 27182 2 0000000000000000 0\n";
        assert_eq!(of_socket(text, 31415).unwrap(), Some(27));
        assert_eq!(of_socket(text, 27182).unwrap(), Some(0));
        assert_eq!(of_socket(text, 1).unwrap(), None);
        assert!(of_socket(b"titles\n 1 2 3 4 5 6 7 8 9 77 2\n", 77).is_err());
    }
}

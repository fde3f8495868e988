//! What each XFS file system does, from `/sys/fs/xfs/DEVICE/stats/stats`.

use std::path::Path;

use crate::collectors::devices::{Devices, Live};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::{HostRoot, TextError, fields};
use crate::snapshot::{Families, Labels};

/// A line of the file: its first word, and family and help of each number behind it, all counters. Lines may have more
/// numbers, and the file has more lines.
type Line = (&'static [u8], &'static [(&'static str, &'static str)]);

const LINES: [Line; 8] = [
    (
        b"extent_alloc",
        &[
            ("node_xfs_extent_allocation_extents_allocated_total", "Number of extents allocated for a filesystem."),
            ("node_xfs_extent_allocation_blocks_allocated_total", "Number of blocks allocated for a filesystem."),
            ("node_xfs_extent_allocation_extents_freed_total", "Number of extents freed for a filesystem."),
            ("node_xfs_extent_allocation_blocks_freed_total", "Number of blocks freed for a filesystem."),
        ],
    ),
    (
        b"abt",
        &[
            ("node_xfs_allocation_btree_lookups_total", "Number of allocation B-tree lookups for a filesystem."),
            ("node_xfs_allocation_btree_compares_total", "Number of allocation B-tree compares for a filesystem."),
            (
                "node_xfs_allocation_btree_records_inserted_total",
                "Number of allocation B-tree records inserted for a filesystem.",
            ),
            (
                "node_xfs_allocation_btree_records_deleted_total",
                "Number of allocation B-tree records deleted for a filesystem.",
            ),
        ],
    ),
    (
        b"blk_map",
        &[
            ("node_xfs_block_mapping_reads_total", "Number of block map for read operations for a filesystem."),
            ("node_xfs_block_mapping_writes_total", "Number of block map for write operations for a filesystem."),
            ("node_xfs_block_mapping_unmaps_total", "Number of block unmaps (deletes) for a filesystem."),
            (
                "node_xfs_block_mapping_extent_list_insertions_total",
                "Number of extent list insertions for a filesystem.",
            ),
            ("node_xfs_block_mapping_extent_list_deletions_total", "Number of extent list deletions for a filesystem."),
            ("node_xfs_block_mapping_extent_list_lookups_total", "Number of extent list lookups for a filesystem."),
            ("node_xfs_block_mapping_extent_list_compares_total", "Number of extent list compares for a filesystem."),
        ],
    ),
    (
        b"bmbt",
        &[
            ("node_xfs_block_map_btree_lookups_total", "Number of block map B-tree lookups for a filesystem."),
            ("node_xfs_block_map_btree_compares_total", "Number of block map B-tree compares for a filesystem."),
            (
                "node_xfs_block_map_btree_records_inserted_total",
                "Number of block map B-tree records inserted for a filesystem.",
            ),
            (
                "node_xfs_block_map_btree_records_deleted_total",
                "Number of block map B-tree records deleted for a filesystem.",
            ),
        ],
    ),
    (
        b"dir",
        &[
            (
                "node_xfs_directory_operation_lookup_total",
                "Number of file name directory lookups which miss the operating systems directory name lookup \
                 cache.",
            ),
            (
                "node_xfs_directory_operation_create_total",
                "Number of times a new directory entry was created for a filesystem.",
            ),
            (
                "node_xfs_directory_operation_remove_total",
                "Number of times an existing directory entry was created for a filesystem.",
            ),
            (
                "node_xfs_directory_operation_getdents_total",
                "Number of times the directory getdents operation was performed for a filesystem.",
            ),
        ],
    ),
    (
        b"ig",
        &[
            (
                "node_xfs_inode_operation_attempts_total",
                "Number of times the OS looked for an XFS inode in the inode cache.",
            ),
            (
                "node_xfs_inode_operation_found_total",
                "Number of times the OS looked for and found an XFS inode in the inode cache.",
            ),
            (
                "node_xfs_inode_operation_recycled_total",
                "Number of times the OS found an XFS inode in the cache, but could not use it as it was being \
                 recycled.",
            ),
            (
                "node_xfs_inode_operation_missed_total",
                "Number of times the OS looked for an XFS inode in the cache, but did not find it.",
            ),
            (
                "node_xfs_inode_operation_duplicates_total",
                "Number of times the OS tried to add a missing XFS inode to the inode cache, but found it had \
                 already been added by another process.",
            ),
            (
                "node_xfs_inode_operation_reclaims_total",
                "Number of times the OS reclaimed an XFS inode from the inode cache to free memory for another \
                 purpose.",
            ),
            (
                "node_xfs_inode_operation_attribute_changes_total",
                "Number of times the OS explicitly changed the attributes of an XFS inode.",
            ),
        ],
    ),
    (
        b"rw",
        &[
            ("node_xfs_write_calls_total", "Number of write(2) system calls made to files in a filesystem."),
            ("node_xfs_read_calls_total", "Number of read(2) system calls made to files in a filesystem."),
        ],
    ),
    (
        b"vnodes",
        &[
            ("node_xfs_vnode_active_total", "Number of vnodes not on free lists for a filesystem."),
            ("node_xfs_vnode_allocate_total", "Number of times vn_alloc called for a filesystem."),
            ("node_xfs_vnode_get_total", "Number of times vn_get called for a filesystem."),
            ("node_xfs_vnode_hold_total", "Number of times vn_hold called for a filesystem."),
            ("node_xfs_vnode_release_total", "Number of times vn_rele called for a filesystem."),
            ("node_xfs_vnode_reclaim_total", "Number of times vn_reclaim called for a filesystem."),
            ("node_xfs_vnode_remove_total", "Number of times vn_remove called for a filesystem."),
        ],
    ),
];

/// The most numbers that a line in [`LINES`] has.
const MOST: usize = 7;

type Numbers = [[Option<u64>; MOST]; LINES.len()];

fn parse(text: &[u8], numbers: &mut Numbers) -> Result<(), TextError> {
    *numbers = Numbers::default();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = fields(line);
        let Some(word) = fields.next() else { continue };
        let known = LINES.iter().zip(numbers.iter_mut()).find(|((first, _), _)| *first == word);
        let Some(((_, families), row)) = known else { continue };
        for (_, number) in families.iter().zip(row) {
            *number = Some(fields.number("a statistic of XFS")?);
        }
    }
    if numbers.iter().flatten().all(Option::is_none) {
        return Err(TextError::expected("statistics of XFS", text));
    }
    Ok(())
}

struct FileSystem {
    labels: Labels,
    file: Live,
    numbers: Numbers,
}

impl FileSystem {
    fn new(name: &str, place: &Path) -> Option<Self> {
        let file = Live::at(place.join("stats/stats"))?;
        Some(Self { labels: Labels::new([("device", name)]), file, numbers: Numbers::default() })
    }
}

/// See the module.
pub(crate) struct Xfs {
    file_systems: Devices<FileSystem>,
}

impl Xfs {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { file_systems: Devices::new(host.sys("fs/xfs")) }
    }
}

impl Collector for Xfs {
    fn name(&self) -> &'static str {
        "xfs"
    }

    fn begin(&mut self, pass: Pass) {
        self.file_systems.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let Some(all) = self.file_systems.get(FileSystem::new)? else { return Ok(Outcome::Nothing) };
        let mut lost = false;
        for FileSystem { file, numbers, .. } in all.iter_mut() {
            let read = file.with(|text| parse(text, numbers))?;
            if read.is_none() {
                *numbers = Numbers::default();
            }
            lost |= file.is_lost(read.is_some());
        }
        for (line, (_, families)) in LINES.into_iter().enumerate() {
            for (column, (name, help)) in families.iter().enumerate() {
                out.counter(*name, *help);
                for FileSystem { labels, numbers, .. } in all.iter() {
                    let number = numbers.get(line).and_then(|row| *row.get(column)?);
                    number.inspect(|number| out.push(labels, *number as f64));
                }
            }
        }
        if lost {
            self.file_systems.soon();
        }
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8]) -> Result<Numbers, TextError> {
        let mut numbers = Numbers::default();
        parse(text, &mut numbers).map(|()| numbers)
    }

    #[test]
    fn no_line_has_more_than_fits() {
        assert!(LINES.iter().all(|(_, families)| families.len() <= MOST));
    }

    #[test]
    fn reads_the_lines_that_are_shown() {
        let numbers = parsed(b"extent_alloc 1 2 3 4\nabtb2 9 9 9 9\nrw 5 6\nvnodes 1 2 3 4 5 6 7 8\nqm 1\n").unwrap();
        assert_eq!(numbers[0][..4], [Some(1), Some(2), Some(3), Some(4)]);
        assert_eq!(numbers[6][..3], [Some(5), Some(6), None]);
        assert_eq!(numbers[7][6], Some(7));
        assert_eq!(numbers[1], [None; MOST]);
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in [&b""[..], b"extent_alloc 1 2 3", b"rw 1 x", b"rw 1 99999999999999999999", b"\xff\xfe", b"rw"] {
            assert!(parsed(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}

//! The list of mounts, from `mountinfo`.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::Settings;
use crate::host::{HostRoot, TextError, fields, lines, number};
use crate::pattern::shows;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Mount {
    /// What is mounted: a device's path, or what the file system has instead.
    pub(super) device: Box<str>,
    /// Major and minor number of the file system's device.
    pub(super) numbers: (u64, u64),
    /// Where, as the host knows it.
    pub(super) mountpoint: PathBuf,
    /// Of which type.
    pub(super) fstype: Box<str>,
    /// The mount or the file system as a whole is read-only.
    pub(super) readonly: bool,
}

/// The mounts that are shown, in the order of the file. A device that is mounted twice in one place is one.
pub(super) fn parse(text: &[u8], host: &HostRoot, settings: &Settings) -> Result<Vec<Mount>, TextError> {
    let mut mounts = Vec::new();
    let mut seen = HashSet::new();
    for line in lines(text)? {
        let Some(mount) = parse_line(line, host, settings)? else { continue };
        if seen.insert((mount.device.clone(), mount.mountpoint.clone(), mount.fstype.clone())) {
            mounts.push(mount);
        }
    }
    Ok(mounts)
}

/// `id parent major:minor root mountpoint options [optional fields] - type source super-options`
fn parse_line(line: &[u8], host: &HostRoot, settings: &Settings) -> Result<Option<Mount>, TextError> {
    let mut fields = fields(line);
    fields.number("a mount's id")?;
    fields.number("the parent mount's id")?;
    let device_numbers = fields.text("a device's numbers")?;
    let numbers = parse_numbers(device_numbers)
        .ok_or_else(|| TextError::expected("a device's numbers with a colon", device_numbers))?;
    fields.text("the root of the mount")?;
    let point = unescape(fields.text("a mount point")?);
    let options = fields.text("mount options")?;
    if !fields.by_ref().any(|field| field == b"-") {
        return Err(TextError::expected("a mount with the separator -", line));
    }
    let fstype = unescape(fields.text("a file system's type")?);
    let (source, super_options) = match (fields.text("what is mounted")?, fields.next()) {
        (source, Some(options)) => (source, options),
        // A source may be the empty string, which leaves no field.
        (options, None) => (&b""[..], options),
    };
    let point = host.host_path(&PathBuf::from(OsString::from_vec(point))).to_path_buf();
    let fstype = String::from_utf8_lossy(&fstype).into_owned();
    let points = (&settings.mount_points_include, &settings.mount_points_exclude);
    let types = (&settings.fs_types_include, &settings.fs_types_exclude);
    if !shows(points.0, points.1, &point.to_string_lossy()) || !shows(types.0, types.1, &fstype) {
        return Ok(None);
    }
    let has = |options: &[u8], wanted: &[u8]| options.split(|byte| *byte == b',').any(|option| option == wanted);
    // ext4 says with the last that it takes no more writes after an error.
    let readonly = has(options, b"ro") || has(super_options, b"ro") || has(super_options, b"emergency_ro");
    Ok(Some(Mount {
        device: String::from_utf8_lossy(&unescape(source)).into(),
        mountpoint: point,
        fstype: fstype.into(),
        numbers,
        readonly,
    }))
}

/// `8:1`
fn parse_numbers(text: &[u8]) -> Option<(u64, u64)> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    Some((number(&text[..colon])?, number(&text[colon + 1..])?))
}

/// The kernel writes blanks, newlines and backslashes as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let digits = if first == b'\\' { after.first_chunk::<3>() } else { None };
        match digits.and_then(|digits| octal(*digits)) {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

fn octal(digits: [u8; 3]) -> Option<u8> {
    digits.into_iter().try_fold(0u8, |sum, digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit <= 7).then_some(())?;
        sum.checked_mul(8)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn parsed(text: &[u8]) -> Result<Vec<Mount>, TextError> {
        parse(text, &HostRoot::default(), &Settings::default())
    }

    #[test]
    fn reads_a_mount() {
        let mounts = parsed(b"36 35 98:0 /mnt1 /srv/my\\040data\\134x rw,noatime master:1 shared:7 - ext4 /dev/mapper/a ro,errors=continue\n").unwrap();
        assert_eq!(
            mounts,
            [Mount {
                device: "/dev/mapper/a".into(),
                mountpoint: "/srv/my data\\x".into(),
                fstype: "ext4".into(),
                numbers: (98, 0),
                readonly: true,
            }]
        );
    }

    #[test]
    fn read_only_by_any_of_three_options() {
        for (options, super_options, readonly) in [
            ("rw,nosuid", "rw", false),
            ("ro", "rw", true),
            ("rw", "ro,errors=remount-ro", true),
            ("rw", "rw,emergency_ro", true),
            ("rw,errors=remount-ro", "rw", false),
        ] {
            let line = format!("1 2 8:1 / /a {options} - ext4 /dev/sda1 {super_options}\n");
            assert_eq!(parsed(line.as_bytes()).unwrap()[0].readonly, readonly, "{line}");
        }
    }

    #[test]
    fn leaves_out_what_node_exporter_does() {
        let line = |point: &str, fstype: &str| format!("1 2 0:1 / {point} rw - {fstype} x rw\n");
        for (point, fstype, shown) in [
            ("/", "ext4", true),
            ("/dev", "ext4", false),
            ("/dev/shm", "tmpfs", false),
            ("/device", "tmpfs", true),
            ("/run", "tmpfs", true),
            ("/run/credentials/a.service", "ramfs", false),
            ("/var/lib/docker", "ext4", true),
            ("/var/lib/docker/x/y", "ext4", false),
            ("/x", "overlay", false),
            ("/x", "cgroup2", false),
            ("/x", "nfs4", true),
        ] {
            assert_eq!(parsed(line(point, fstype).as_bytes()).unwrap().len(), usize::from(shown), "{point} {fstype}");
        }
    }

    #[test]
    fn the_same_mount_twice_is_one() {
        let text = b"1 2 8:1 / /a rw - ext4 /dev/sda1 rw\n3 2 8:1 /sub /a rw - ext4 /dev/sda1 rw\n4 2 8:1 / /b rw - ext4 /dev/sda1 rw\n";
        let points: Vec<_> = parsed(text).unwrap().into_iter().map(|m| m.mountpoint).collect();
        assert_eq!(points, [Path::new("/a"), Path::new("/b")]);
    }

    #[test]
    fn an_empty_source_is_allowed() {
        let mounts = parsed(b"1 2 0:1 / /a rw - tmpfs  rw\n").unwrap();
        assert_eq!((&*mounts[0].device, mounts[0].readonly), ("", false));
    }

    #[test]
    fn a_root_elsewhere_is_taken_off() {
        let host = HostRoot { root: "/host".into(), ..HostRoot::default() };
        let mounts = parse(
            b"1 2 8:1 / /host/data rw - ext4 /dev/sda1 rw\n3 2 8:1 / /host/proc rw - ext4 x rw\n",
            &host,
            &Settings::default(),
        )
        .unwrap();
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].mountpoint, Path::new("/data"));
    }

    #[test]
    fn escapes_that_are_none_stay() {
        assert_eq!(unescape(b"a\\011b\\12\\999\\"), b"a\tb\\12\\999\\");
        assert_eq!(unescape(b"\\777\\377"), b"\\777\xff");
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        for bad in [
            &b"1"[..],
            b"1 2 8:1 / /a",
            b"1 2 8:1 / /a rw",
            b"1 2 8:1 / /a rw - ext4",
            b"1 2 8:1 / /a rw -",
            b"\xff\xfe",
            b"x 2 8:1 / /a rw - ext4 /dev/sda rw",
            b"1 2 8 / /a rw - ext4 /dev/sda rw",
            b"1 2 8:x / /a rw - ext4 /dev/sda rw",
        ] {
            assert!(parsed(bad).is_err(), "{}", bad.escape_ascii());
            assert!(bad.is_empty() || parsed(&[bad, b"\n"].concat()).is_err(), "{}", bad.escape_ascii());
        }
    }
}

//! Which unit of systemd and which container a process is in, from `/proc/PID/cgroup`.

use crate::host::{TextError, lines};

/// What a process' control group says about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The unit of the system's systemd: a service, a scope, a mount.
    pub(super) unit: Option<Box<str>>,
    /// The container's id.
    pub(super) container: Option<Box<str>>,
    /// The group's path, as in the unified hierarchy, or in systemd's own where there is none.
    pub(super) path: Box<str>,
}

/// Docker, containerd, CRI-O and podman name containers by 64 hexadecimal digits.
const ID_DIGITS: usize = 64;

/// Kinds of units that hold processes; a slice holds other units.
const UNITS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// Each line is `number:controllers:path`: number 0 is the unified hierarchy, `name=systemd` systemd's own of version 1.
pub(super) fn parse(text: &[u8]) -> Result<Place, TextError> {
    let (mut unified, mut named, mut longest): (_, _, &[u8]) = (None, None, b"");
    for line in lines(text)? {
        let mut parts = line.splitn(3, |byte| *byte == b':');
        let (Some(number), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(TextError::expected("number:controllers:path", line));
        };
        if number == b"0" && controllers.is_empty() {
            unified = Some(path);
        } else if controllers == b"name=systemd" {
            named = Some(path);
        }
        if path.len() > longest.len() {
            longest = path;
        }
    }
    // With both hierarchies mounted, the unified one may be unused: everything is at its root.
    let path = unified.filter(|path| *path != b"/").or(named).or(unified).unwrap_or(longest);
    let path = String::from_utf8_lossy(path);
    let longest = String::from_utf8_lossy(longest);
    let container = container_of(&path).or_else(|| container_of(&longest)).map(Into::into);
    Ok(Place { unit: unit_of(&path).map(Into::into), container, path: path.into() })
}

/// The unit that the group of this path belongs to. The outermost: below it is what the unit makes of its group itself.
pub(crate) fn unit_of(path: &str) -> Option<&str> {
    let is_unit = |part: &&str| UNITS.iter().any(|kind| part.len() > kind.len() && part.ends_with(kind));
    path.split('/').find(is_unit)
}

/// The container whose group has this path. The innermost: a container may run in another.
pub(crate) fn container_of(path: &str) -> Option<&str> {
    path.rsplit('/').find_map(container)
}

/// `docker-ID.scope`, `cri-containerd-ID.scope`, `libpod-ID.scope`, `ID`, and LXC's `lxc.payload.NAME`.
fn container(part: &str) -> Option<&str> {
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return Some(name).filter(|name| !name.is_empty());
    }
    let stem = part.strip_suffix(".scope").unwrap_or(part);
    let id = stem.rsplit(['-', ':']).next().unwrap_or(stem);
    // podman's monitor is beside the container, not in it.
    let is_id = id.len() == ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_id && !stem.starts_with("libpod-conmon-") && !stem.starts_with("crio-conmon-")).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f0c9a1b2e3d5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8";

    fn place(text: &str) -> (Option<String>, Option<String>) {
        let place = parse(text.as_bytes()).unwrap();
        (place.unit.map(Into::into), place.container.map(Into::into))
    }

    #[test]
    fn units_and_containers_by_their_managers() {
        let some = |text: &str| Some(text.to_owned());
        for (path, unit, container) in [
            ("/", None, None),
            ("/init.scope", some("init.scope"), None),
            ("/system.slice/nginx.service", some("nginx.service"), None),
            ("/system.slice/system-getty.slice/getty@tty1.service", some("getty@tty1.service"), None),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/x.service", some("user@1000.service"), None),
            ("/user.slice/user-1000.slice/session-3.scope", some("session-3.scope"), None),
            (&format!("/system.slice/docker-{ID}.scope"), some(&format!("docker-{ID}.scope")), some(ID)),
            (&format!("/docker/{ID}"), None, some(ID)),
            (&format!("/docker/{ID}/init.scope"), some("init.scope"), some(ID)),
            (
                &format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
                some(&format!("cri-containerd-{ID}.scope")),
                some(ID),
            ),
            (&format!("/kubepods/besteffort/pod1/{ID}"), None, some(ID)),
            (&format!("/machine.slice/libpod-{ID}.scope/container"), some(&format!("libpod-{ID}.scope")), some(ID)),
            (&format!("/machine.slice/libpod-conmon-{ID}.scope"), some(&format!("libpod-conmon-{ID}.scope")), None),
            ("/lxc.payload.web/system.slice/x.service", some("x.service"), some("web")),
            (&format!("/docker/{}", &ID[1..]), None, None),
        ] {
            assert_eq!(place(&format!("0::{path}\n")), (unit, container), "{path}");
        }
    }

    #[test]
    fn version_one_names_the_unit_in_a_hierarchy_of_its_own() {
        let text = "12:cpu,cpuacct:/a\n1:name=systemd:/system.slice/cron.service\n0::/system.slice/cron.service\n";
        assert_eq!(place(text).0.as_deref(), Some("cron.service"));
        assert_eq!(place("1:name=systemd:/system.slice/cron.service\n0::/\n").0.as_deref(), Some("cron.service"));
        let text = format!("4:memory:/docker/{ID}\n1:name=systemd:/x\n0::/\n");
        assert_eq!(place(&text), (None, Some(ID.to_owned())));
        assert_eq!(&*parse(b"3:memory:/a\n2:pids:/b/c\n").unwrap().path, "/b/c");
        assert_eq!(place(""), (None, None));
    }

    #[test]
    fn what_is_cut_or_garbage_is_an_error() {
        for bad in ["0::/system.slice/ngin", "nothing\n", "0:\n", "\u{0}\n"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(parse(b"0::/\xff\xfe.service\n").is_ok());
    }
}

//! Whether SELinux is on and enforces, from its file system and its configuration.

use crate::collectors::devices::{self, Rarely};
use crate::collectors::{CollectError, Collector, Outcome, Pass};
use crate::host::{Attribute, HostRoot};
use crate::snapshot::Families;

/// How the configuration's words count.
const ENFORCING: f64 = 1.0;
const PERMISSIVE: f64 = 0.0;
const DISABLED: f64 = -1.0;

/// See the module.
pub(crate) struct SeLinux {
    host: HostRoot,
    rarely: Rarely,
    /// 1 where it enforces. `None` where SELinux is off: that changes with a boot only, but its file system may be mounted
    /// late.
    enforce: Option<Attribute>,
    configured: f64,
}

impl SeLinux {
    pub(crate) fn new(host: &HostRoot) -> Self {
        Self { host: host.clone(), rarely: Rarely::new(), enforce: None, configured: DISABLED }
    }
}

/// The mode that the configuration's last line of it names. No line, or another word: disabled, as for SELinux itself.
fn configured(text: &str) -> f64 {
    let modes = text.lines().filter_map(|line| line.trim().strip_prefix("SELINUX"));
    let mode = modes.filter_map(|rest| rest.trim_start().strip_prefix('=')).next_back();
    match mode.map(|mode| mode.trim().to_ascii_lowercase()).as_deref() {
        Some("enforcing") => ENFORCING,
        Some("permissive") => PERMISSIVE,
        _ => DISABLED,
    }
}

impl Collector for SeLinux {
    fn name(&self) -> &'static str {
        "selinux"
    }

    fn begin(&mut self, pass: Pass) {
        self.rarely.begin(pass);
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        if self.rarely.is_due() {
            let enforce = self.host.sys("fs/selinux/enforce");
            self.enforce = enforce.exists().then(|| Attribute::new(enforce));
            if self.enforce.is_some() {
                let text = devices::text(self.host.at_root("etc/selinux/config".as_ref()));
                self.configured = configured(&text.unwrap_or_default());
            }
        }
        if let Some(enforce) = &mut self.enforce {
            out.gauge("node_selinux_config_mode", "Configured SELinux enforcement mode");
            out.value(self.configured);
            if let Some(enforces) = enforce.number()? {
                out.gauge("node_selinux_current_mode", "Current SELinux enforcement mode");
                out.value(enforces);
            }
        }
        out.gauge("node_selinux_enabled", "SELinux is enabled, 1 is true, 0 is false");
        out.value(f64::from(self.enforce.is_some()));
        Ok(Outcome::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_configuration_names_a_mode() {
        for (text, mode) in [
            ("# SELINUX=disabled\nSELINUX=enforcing\nSELINUXTYPE=targeted\n", ENFORCING),
            (" SELINUX = Permissive \n", PERMISSIVE),
            ("SELINUX=enforcing\nSELINUX=disabled", DISABLED),
            ("SELINUXTYPE=enforcing\n", DISABLED),
            ("", DISABLED),
        ] {
            assert_eq!(configured(text), mode, "{text}");
        }
    }

    #[test]
    fn off_on_and_enforcing() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot { sys: dir.path().join("sys"), root: dir.path().into(), ..HostRoot::default() };
        let mut collector = SeLinux::new(&host);
        let run = |collector: &mut SeLinux| {
            let mut out = Families::default();
            assert_eq!(collector.collect(&mut out).unwrap(), Outcome::Data);
            ["enabled", "current_mode", "config_mode"].map(|name| out.single(&format!("node_selinux_{name}")))
        };
        assert_eq!(run(&mut collector), [Some(0.0), None, None]);
        fs::create_dir_all(host.sys("fs/selinux")).unwrap();
        fs::create_dir_all(dir.path().join("etc/selinux")).unwrap();
        fs::write(host.sys("fs/selinux/enforce"), "0").unwrap();
        fs::write(dir.path().join("etc/selinux/config"), "SELINUX=enforcing\n").unwrap();
        collector.rarely.soon();
        assert_eq!(run(&mut collector), [Some(1.0), Some(0.0), Some(1.0)]);
        fs::write(host.sys("fs/selinux/enforce"), "1").unwrap();
        assert_eq!(run(&mut collector), [Some(1.0), Some(1.0), Some(1.0)]);
    }
}

//! Kernel and host names, from the system call.

use crate::collectors::{CollectError, Collector, Outcome};
use crate::snapshot::{Families, Labels};

/// See the module.
pub(crate) struct Uname {
    labels: Labels,
}

/// What the labels were made of, in their order.
const NAMES: [&str; 6] = ["sysname", "release", "version", "machine", "nodename", "domainname"];

impl Uname {
    pub(crate) fn new() -> Self {
        Self { labels: Labels::none() }
    }
}

#[cfg(target_os = "linux")]
fn domainname(uname: &rustix::system::Uname) -> &std::ffi::CStr {
    uname.domainname()
}

/// Linux' alone.
#[cfg(not(target_os = "linux"))]
fn domainname(_: &rustix::system::Uname) -> &std::ffi::CStr {
    c""
}

impl Collector for Uname {
    fn name(&self) -> &'static str {
        "uname"
    }

    fn collect(&mut self, out: &mut Families) -> Result<Outcome, CollectError> {
        let uname = rustix::system::uname();
        let values =
            [uname.sysname(), uname.release(), uname.version(), uname.machine(), uname.nodename(), domainname(&uname)]
                .map(|text| text.to_string_lossy());
        // A host may be renamed while it runs; until then the labels of the last pass serve.
        let same =
            !self.labels.is_empty() && self.labels.iter().map(|(_, value)| value).eq(values.iter().map(|v| &**v));
        if !same {
            self.labels = Labels::new(std::array::from_fn::<_, 6, _>(|i| (NAMES[i], &*values[i])));
        }
        out.gauge("node_uname_info", "Labeled system information as provided by the uname system call.");
        out.push(&self.labels, 1.0);
        Ok(Outcome::Data)
    }
}

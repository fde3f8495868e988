//! Where a line comes from.

use std::collections::BTreeMap;

/// What a source knows of its lines besides their text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The file's path, which becomes the field `file`.
    pub file: Option<String>,
    /// Fields of every line that has none of the same name.
    pub fields: BTreeMap<String, String>,
    /// The service of lines that name none.
    pub service: Option<String>,
}

impl Origin {
    /// A file. The path of a container's log says which container it is.
    pub fn of_file(path: &str) -> Self {
        let mut origin = Self { file: Some(path.to_owned()), ..Self::default() };
        let mut field = |name: &str, value: &str| drop(origin.fields.insert(name.to_owned(), value.to_owned()));
        let parts: Vec<&str> = path.rsplit('/').collect();
        match parts.as_slice() {
            // `…/pods/NAMESPACE_POD_UID/CONTAINER/0.log`
            [_, container, pod, "pods", ..] => {
                let mut names = pod.splitn(3, '_');
                if let (Some(namespace), Some(pod)) = (names.next(), names.next()) {
                    field("k8s_namespace", namespace);
                    field("k8s_pod", pod);
                    field("k8s_container", container);
                    origin.service = Some((*container).to_owned());
                }
            }
            // `…/containers/POD_NAMESPACE_CONTAINER-ID.log`
            [name, "containers", ..] if name.matches('_').count() == 2 => {
                let mut names = name.splitn(3, '_');
                if let (Some(pod), Some(namespace), Some(rest)) = (names.next(), names.next(), names.next()) {
                    let container = rest.rsplit_once('-').map_or(rest, |(container, _)| container);
                    field("k8s_namespace", namespace);
                    field("k8s_pod", pod);
                    field("k8s_container", container);
                    origin.service = Some(container.to_owned());
                }
            }
            // `…/containers/ID/ID-json.log`
            [name, id, "containers", ..] if name.starts_with(*id) => {
                field("container_id", id.get(..12).unwrap_or(id));
            }
            _ => {}
        }
        origin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_which_container_it_is() {
        let id = "0123456789abcdef";
        for (path, service, fields) in [
            ("/var/log/app.log".to_owned(), None, ""),
            (
                "/var/log/pods/shop_web-7d9_0a1b/nginx/0.log".to_owned(),
                Some("nginx"),
                "k8s_container=nginx k8s_namespace=shop k8s_pod=web-7d9",
            ),
            (
                format!("/var/log/containers/web-7d9_shop_nginx-{id}.log"),
                Some("nginx"),
                "k8s_container=nginx k8s_namespace=shop k8s_pod=web-7d9",
            ),
            (format!("/var/lib/docker/containers/{id}/{id}-json.log"), None, "container_id=0123456789ab"),
        ] {
            let origin = Origin::of_file(&path);
            let found: Vec<_> = origin.fields.iter().map(|(k, v)| format!("{k}={v}")).collect();
            assert_eq!((origin.service.as_deref(), found.join(" ").as_str()), (service, fields), "{path}");
        }
    }
}
